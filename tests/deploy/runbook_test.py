"""deploy/README.md speaks of metrics, log lines, flags and values that exist."""
import re

import pytest
import yaml
from chart import CHART, ROOT

RUNBOOK = (ROOT / "deploy/README.md").read_text()
SOURCES = "\n".join(path.read_text() for path in sorted((ROOT / "server").rglob("*.cc")))
# Texts that stand on two lines of the source, and those that are put together there.
SOURCES = re.sub(r'"\s*\n\s*"', "", SOURCES)


def named(pattern):
    found = sorted(set(re.findall(pattern, RUNBOOK)))
    assert found
    return found


@pytest.mark.parametrize("metric", named(r"\bsecateur_[a-z_]+\b"))
def test_the_metric_is_exported(metric):
    metric = re.sub(r"_(bucket|sum|count)$", "", metric)
    assert f'"{metric}"' in SOURCES


@pytest.mark.parametrize("message", named(r'"message":"([^"]+)"'))
def test_the_server_logs_that(message):
    assert f'"{message}"' in SOURCES


@pytest.mark.parametrize("flag", named(r"(?<![-\w])--(?:drain|threads|store|listen|allow|max|view|log|device|tls|insecure)[a-z-]*"))
def test_the_flag_exists(flag):
    assert f'"{flag}"' in (ROOT / "server/options.cc").read_text()


@pytest.mark.parametrize("path", named(r"`([a-z][A-Za-z]+(?:\.[a-zA-Z]+)+)`"))
def test_the_value_exists(path):
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    for part in path.split("."):
        assert part in values, path
        values = values[part]
