"""The chart as Helm renders it, for the tests of this folder."""
import os
import pathlib
import subprocess

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
CHART = ROOT / "deploy/helm/secateur"
VALUES = {path.stem: path for path in sorted((pathlib.Path(__file__).parent / "values").glob("*.yaml"))}


def helm(*arguments):
    return subprocess.run([os.environ["SECATEUR_HELM"], *map(str, arguments)], text=True, capture_output=True)


def render(name, *options):
    """All objects of values/NAME.yaml, by kind; one of each kind."""
    done = helm("template", "demo", CHART, "-f", VALUES[name], *options)
    assert done.returncode == 0, done.stderr
    objects = [each for each in yaml.safe_load_all(done.stdout) if each]
    by_kind = {each["kind"]: each for each in objects}
    assert len(by_kind) == len(objects)
    return by_kind


def refusal(name, *options):
    """What Helm says against values/NAME.yaml with these options."""
    done = helm("template", "demo", CHART, "-f", VALUES[name], *options)
    assert done.returncode != 0, f"{options} were taken"
    return done.stderr


def pod_of(objects):
    return objects["Deployment"]["spec"]["template"]["spec"]


def container_of(objects):
    (container,) = pod_of(objects)["containers"]
    return container
