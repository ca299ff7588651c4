#!/usr/bin/python3
"""Resolves scripts/requirements/*.in to *.txt: every package with its version and SHA-256.

    lock.py PYTHON [NAME ...]        e.g. lock.py ~/.cache/secateur/test-env/bin/python tests

PYTHON is the interpreter to resolve for: Debian 12's 3.11 on x86-64. Run it after editing a .in file.
"""
import json
import pathlib
import re
import subprocess
import sys

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "requirements"


def resolve(python, wanted):
    options = re.findall(r"^# options: (.*)$", wanted.read_text(), re.MULTILINE)
    command = [python, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed", "--only-binary=:all:",
               "--report", "-", *" ".join(options).split(), "-r", str(wanted)]
    report = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    for package in report["install"]:
        name = re.sub(r"[-_.]+", "-", package["metadata"]["name"]).lower()
        digest = package["download_info"]["archive_info"]["hash"].replace("=", ":")
        yield f"{name}=={package['metadata']['version']} --hash={digest}"


def main(python, names):
    for wanted in sorted(FOLDER.glob("*.in")):
        if not names or wanted.stem in names:
            lines = sorted(resolve(python, wanted))
            head = f"# Made from {wanted.name} by scripts/lib/lock.py. Do not edit.\n"
            wanted.with_suffix(".txt").write_text(head + "\n".join(lines) + "\n")
            print(f"{wanted.with_suffix('.txt')}: {len(lines)} packages")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(sys.argv[1], set(sys.argv[2:]))
