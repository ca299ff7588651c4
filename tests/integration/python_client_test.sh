#!/bin/sh
# Runs python_client.py with the tests' Python; exit code 77 means skipped.
for variable in SECATEUR_TEST_PYTHON SECATEUR_SMOLLM2; do
  if [ -z "$(printenv $variable)" ]; then
    echo "skipped: $variable is not set"
    exit 77
  fi
done
exec "$SECATEUR_TEST_PYTHON" "$(dirname "$0")/python_client.py"
