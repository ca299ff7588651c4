#!/usr/bin/python3
"""Closes test runs: which tests were skipped and, on the last line, how many passed, failed and were skipped in all.

    test_summary.py JUNIT_XML...

Exits with 1 if one failed, if none ran, or if one was skipped where SECATEUR_TEST_DATA says that all can run.
"""
import os
import pathlib
import sys
import xml.etree.ElementTree

if len(sys.argv) < 2:
    sys.exit(__doc__)
names = {"run": [], "fail": [], "notrun": [], "disabled": []}
cases = [(pathlib.Path(path).parent.name, case) for path in sys.argv[1:]
         for case in xml.etree.ElementTree.parse(path).getroot().findall("testcase")]
for build, case in cases:
    status, why = case.get("status"), case.find("skipped")
    # A test that could not start is not one that chose to skip itself.
    lost = status == "notrun" and (why is None or not why.get("message", "").startswith("SKIP_"))
    names["fail" if lost else status].append(f"{case.get('name')} ({build})")
passed, failed, skipped = names["run"], names["fail"], names["notrun"] + names["disabled"]
must_run = bool(os.environ.get("SECATEUR_TEST_DATA"))
for name in skipped:
    print(f"{'skipped, though SECATEUR_TEST_DATA is set' if must_run else 'skipped'}: {name}")
for name in failed:
    print(f"failed: {name}")
if must_run:
    failed, skipped = failed + skipped, []
print(f"{len(passed)} passed, {len(failed)} failed, {len(skipped)} skipped")
sys.exit(1 if failed or not passed else 0)
