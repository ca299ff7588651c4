"""deploy/README.md speaks of metrics, log lines, flags and values that exist, and its alerts are Prometheus'."""
import os
import re
import subprocess

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


@pytest.mark.parametrize("path", named(r"`([a-z]+(?:[A-Z][A-Za-z]+|\.(?!yaml|schema)[a-zA-Z]+)+)(?:: [A-Za-z]+)?`"))
def test_the_value_exists(path):
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    for part in path.split("."):
        assert part in values, path
        values = values[part]


def test_prometheus_can_read_the_alerts(tmp_path):
    alerts = re.findall(r"^\| `([^`]*secateur_[^`]*)` \|", RUNBOOK, re.MULTILINE)
    assert len(alerts) >= 6
    rules = [{"alert": f"Alert{i}", "expr": alert} for i, alert in enumerate(alerts)]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "secateur", "rules": rules}]}))
    done = subprocess.run([os.environ["SECATEUR_PROMTOOL"], "check", "rules", tmp_path / "rules.yaml"],
                          text=True, capture_output=True)
    assert done.returncode == 0, done.stdout + done.stderr
