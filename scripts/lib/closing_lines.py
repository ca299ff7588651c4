#!/usr/bin/python3
"""Closes a run of ctest, which calls it: one line for each of the long suites (labels) that was run, such as

    chaos: 9 passed, 0 failed; 10000 requests, 1873 operations, 0 lost

    closing_lines.py BUILD_FOLDER

Tests print what they counted as "chaos: a name, 10000 requests, 0 lost"; numbers of the same thing are added up.
"""
import collections
import pathlib
import re
import sys

if len(sys.argv) != 2:
    sys.exit(__doc__)
build = pathlib.Path(sys.argv[1])
label_of = {}
for tests in build.glob("tests/*/*_tests.cmake"):
    text = tests.read_text(encoding="utf-8")
    label_of.update(re.findall(r"set_tests_properties\(\s*\[=\[(.*?)\]=\][^\n]* LABELS (\w+)", text))
logs = [path for path in build.glob("Testing/Temporary/LastTest.log*") if path.is_file()]
if not logs:
    sys.exit(0)
log = max(logs, key=lambda path: path.stat().st_mtime_ns).read_text(encoding="utf-8", errors="replace")
ended = collections.defaultdict(collections.Counter)
counted = collections.defaultdict(collections.Counter)
for test in re.split(r"^\d+/\d+ Testing: ", log, flags=re.MULTILINE)[1:]:
    label = label_of.get(test.partition("\n")[0])
    if label is None:
        continue
    skipped = "Skip regular expression found" in test
    passed = re.search(r"^Test Pass", test, flags=re.MULTILINE)
    ended[label]["skipped" if skipped else "passed" if passed else "failed"] += 1
    for line in re.findall(rf"^{label}: (.*)$", test, flags=re.MULTILINE):
        for number, what in re.findall(r", (\d+) ([A-Za-z ]+)", line):
            counted[label][what] += int(number)
for label, ends in sorted(ended.items()):
    counts = ", ".join(f"{number} {what}" for what, number in counted[label].items())
    skipped = f", {ends['skipped']} skipped" if ends["skipped"] else ""
    print(f"{label}: {ends['passed']} passed, {ends['failed']} failed{skipped}" + (f"; {counts}" if counts else ""), flush=True)
