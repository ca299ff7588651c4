"""The Dockerfile by its text; build_image.sh builds it."""
import os
import re
import subprocess

import pytest
from chart import ROOT, container_of, pod_of, render

DOCKERFILE = ROOT / "Dockerfile"


def words(instruction):
    """Of the last such line, which is the run stage's."""
    return re.findall(rf"^{instruction} (.*)$", DOCKERFILE.read_text(), re.MULTILINE)[-1].split()


def test_hadolint_finds_nothing():
    done = subprocess.run([os.environ["SECATEUR_HADOLINT"], DOCKERFILE], text=True, capture_output=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_hadolint_is_at_work():
    done = subprocess.run([os.environ["SECATEUR_HADOLINT"], "-"], input="FROM debian\nRUN cd /tmp\n", text=True, capture_output=True)
    assert done.returncode != 0 and "DL3006" in done.stdout


def test_user_ports_and_program_are_the_charts():
    objects = render("insecure")
    user = pod_of(objects)["securityContext"]
    assert words("USER") == [f"{user['runAsUser']}:{user['runAsGroup']}"]
    assert words("EXPOSE") == [str(port["containerPort"]) for port in container_of(objects)["ports"]]
    assert words("ENTRYPOINT") == ['["secateurd"]'] and "command" not in container_of(objects)


def test_the_build_context_holds_what_the_build_reads():
    allowed = re.findall(r"^!(\S+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    assert all((ROOT / path).exists() for path in allowed)
    lists = (ROOT / "CMakeLists.txt").read_text().split("if(SECATEUR_TESTS)")[0]
    folders = re.findall(r"^ *add_subdirectory\(([^$)]+)\)", lists, re.MULTILINE)
    assert "proto" in folders and "server" in folders
    for folder in folders + re.findall(r"(?:scripts|deploy)/[a-z_]+", DOCKERFILE.read_text()):
        if folder != "deploy/README":
            assert any(folder == path or folder.startswith(path + "/") for path in allowed), folder


@pytest.mark.parametrize("kept", ["build", "tests", ".git", "examples"])
def test_what_changes_without_the_build_stays_out_of_it(kept):
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in lines and f"!{kept}" not in lines
