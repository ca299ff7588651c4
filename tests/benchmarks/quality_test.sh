#!/bin/sh
# Runs quality_test.py with the tests' Python; exit code 77 means skipped.
if [ -z "$SECATEUR_TEST_PYTHON" ]; then
  echo "skipped: SECATEUR_TEST_PYTHON is not set"
  exit 77
fi
exec "$SECATEUR_TEST_PYTHON" -m pytest -q -p no:cacheprovider "$(dirname "$0")/quality_test.py"
