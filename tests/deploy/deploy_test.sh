#!/bin/sh
# Runs the tests of this folder with the tests' Python; exit code 77 means skipped.
for tool in "$SECATEUR_TEST_PYTHON" "$SECATEUR_HELM" "$SECATEUR_HADOLINT" "$SECATEUR_PROMTOOL"; do
  if [ ! -x "$tool" ]; then
    echo "skipped: '$tool' is not there; scripts/setup --tests installs it"
    exit 77
  fi
done
exec "$SECATEUR_TEST_PYTHON" -m pytest -q -p no:cacheprovider "$(dirname "$0")"
