"""What the chart renders is valid, restricted and what the values ask for; what makes no sense is refused."""
import re

import kubernetes_validate
import pytest
import yaml
from chart import CHART, ROOT, VALUES, container_of, helm, pod_of, refusal, render

# The oldest that Chart.yaml allows and the newest that there are schemas for.
KUBERNETES = ["1.25", kubernetes_validate.latest_version()]


@pytest.mark.parametrize("name", VALUES)
def test_lint_finds_nothing(name):
    done = helm("lint", "--strict", CHART, "-f", VALUES[name])
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize("name", VALUES)
def test_every_object_is_one_that_kubernetes_takes(name, version):
    for each in render(name).values():
        if name == "claim" and version == "1.25":
            each = without_image_volume(each)
        kubernetes_validate.validate(each, version, strict=True)


def without_image_volume(each):  # which came with 1.31
    if each["kind"] == "Deployment":
        volumes = each["spec"]["template"]["spec"]["volumes"]
        volumes[:] = [volume for volume in volumes if "image" not in volume]
    return each


def test_the_schemas_see_a_field_that_is_none():
    service = render("insecure")["Service"]
    service["spec"]["prots"] = []
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(service, KUBERNETES[-1], strict=True)


@pytest.mark.parametrize("name", VALUES)
def test_pods_meet_the_restricted_standard(name):
    pod, container = pod_of(render(name)), container_of(render(name))
    assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["runAsUser"] == 10001
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True,
                                            "capabilities": {"drop": ["ALL"]}}
    assert not pod["automountServiceAccountToken"] and not pod["enableServiceLinks"]
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
    assert not any("hostPath" in volume for volume in pod["volumes"])


@pytest.mark.parametrize("name", VALUES)
def test_what_is_mounted_is_there_and_only_store_and_tmp_can_be_written(name):
    objects = render(name)
    volumes = {volume["name"] for volume in pod_of(objects)["volumes"]}
    mounts = container_of(objects)["volumeMounts"]
    assert {mount["name"] for mount in mounts} == volumes
    writable = {mount["mountPath"] for mount in mounts if not mount.get("readOnly")}
    assert writable - {"/outbox"} == {"/tmp"} | (set() if name == "bucket" else {"/var/lib/secateur"})


@pytest.mark.parametrize("name", VALUES)
def test_the_selector_finds_the_pods_and_their_annotations_follow_the_configuration(name):
    objects = render(name)
    labels = objects["Deployment"]["spec"]["template"]["metadata"]["labels"]
    selectors = [objects["Deployment"]["spec"]["selector"]["matchLabels"], objects["Service"]["spec"]["selector"]]
    for kind in ("NetworkPolicy", "PodDisruptionBudget"):
        if kind in objects:
            spec = objects[kind]["spec"]
            selectors.append(spec.get("podSelector", spec.get("selector"))["matchLabels"])
    assert all(selector and selector.items() <= labels.items() for selector in selectors)

    def checksum(objects):
        return objects["Deployment"]["spec"]["template"]["metadata"]["annotations"]["checksum/config"]
    assert checksum(objects) == checksum(render(name))
    assert checksum(objects) != checksum(render(name, "--set", "workers=7"))


@pytest.mark.parametrize("name, strategy, claim", [
    ("insecure", "Recreate", "demo-secateur-store"), ("tls", "Recreate", "demo-secateur-store"),
    ("bucket", "RollingUpdate", None), ("claim", "RollingUpdate", None)])
def test_pods_take_turns_where_only_one_can_have_the_store(name, strategy, claim):
    objects = render(name)
    assert objects["Deployment"]["spec"]["strategy"] == {"type": strategy}
    assert objects.get("PersistentVolumeClaim", {"metadata": {"name": None}})["metadata"]["name"] == claim
    assert render(name, "--set", "strategy=Recreate")["Deployment"]["spec"]["strategy"]["type"] == "Recreate"


@pytest.mark.parametrize("name, drain, grace", [("insecure", "120", 150), ("tls", "45", 65)])
def test_kubernetes_waits_longer_than_the_server_drains(name, drain, grace):
    objects = render(name)
    assert objects["ConfigMap"]["data"]["SECATEUR_DRAIN_SECONDS"] == drain
    assert pod_of(objects)["terminationGracePeriodSeconds"] == grace


@pytest.mark.parametrize("name, seconds", [("insecure", 900), ("tls", 65)])
def test_a_pod_has_the_time_to_start_that_the_values_give(name, seconds):
    probe = container_of(render(name))["startupProbe"]
    assert probe["failureThreshold"] * probe["periodSeconds"] == seconds


def test_plain_text_comes_with_a_network_policy_and_tls_with_its_secret():
    insecure, tls = render("insecure"), render("bucket")
    rules = insecure["NetworkPolicy"]["spec"]["ingress"]
    assert rules == [{"ports": [{"port": "grpc", "protocol": "TCP"}], "from": [{"podSelector": {}}]},
                     {"ports": [{"port": "metrics", "protocol": "TCP"}]}]
    assert not any("TLS" in key for key in insecure["ConfigMap"]["data"])
    assert "NetworkPolicy" not in tls and "SECATEUR_INSECURE" not in tls["ConfigMap"]["data"]
    (volume,) = [volume for volume in pod_of(tls)["volumes"] if volume["name"] == "tls"]
    assert volume["secret"] == {"secretName": "secateur-tls", "defaultMode": 0o440}
    # No one beyond the cluster is to read the metrics.
    assert [port["name"] for port in tls["Service"]["spec"]["ports"]] == ["grpc"]


@pytest.mark.parametrize("name, threads", [("insecure", "2"), ("tls", "1"), ("bucket", "4"), ("claim", "2")])
def test_the_server_computes_with_the_processors_that_it_was_granted(name, threads):
    assert render(name)["ConfigMap"]["data"]["SECATEUR_THREADS"] == threads


@pytest.mark.parametrize("name, option, said", [
    ("insecure", "bogus=1", "'bogus' not allowed"),
    ("insecure", "store.bucket=x", "'bucket' not allowed"),
    ("insecure", "replicas=-1", "/replicas"),
    ("insecure", "workers=0", "/workers"),
    ("insecure", "workers=two", "/workers"),
    ("insecure", "threads=2000", "/threads"),
    ("insecure", "drainSeconds=1.5", "/drainSeconds"),
    ("insecure", "terminationSlackSeconds=1", "/terminationSlackSeconds"),
    ("insecure", "logLevel=loud", "/logLevel"),
    ("insecure", "device=gpu", "/device"),
    ("insecure", "models.serve.Big=x", "invalid propertyName 'Big'"),
    ("insecure", "models.serve.big=/models/x", "/models/serve/big"),
    ("insecure", "store.uri=file:/elsewhere", "/store/uri"),
    ("insecure", "store.claim.accessMode=ReadOnlyMany", "/store/claim/accessMode"),
    ("insecure", "store.claim.size=much", "/store/claim/size"),
    ("insecure", "resources.limits.memory=lots", "/resources/limits/memory"),
    ("insecure", "allowRead={/inbox}", "/allowRead/0"),
    ("insecure", "image.digest=latest", "/image/digest"),
    ("insecure", "image.repository=secateur:0.1.0", "/image/repository"),
    ("insecure", "service.port=70000", "/service/port"),
    ("insecure", "strategy=Replace", "/strategy"),
    ("insecure", "replicas=2", "replicas > 1 need a store"),
    ("insecure", "strategy=RollingUpdate", "needs a store that two pods reach"),
    ("insecure", "insecure=false", "choose how clients come"),
    ("insecure", "tls.secret=x", "exclude each other"),
    ("insecure", "tls.clientCa=true", "tls.clientCa needs"),
    ("insecure", "models.serve=null", "models.serve is empty"),
    ("insecure", "models.volume=null", "models.volume is empty"),
])
def test_values_that_make_no_sense_are_refused_by_name(name, option, said):
    assert said in refusal(name, "--set", option)


def test_the_notes_say_how_to_go_on():
    for name in VALUES:
        done = helm("install", "demo", CHART, "-f", VALUES[name], "--dry-run=client")
        assert done.returncode == 0, done.stderr
        notes = done.stdout[done.stdout.index("NOTES:"):]
        assert "rollout status deployment/demo-secateur" in notes
        assert ("plain text" in notes) == ("insecure: true" in VALUES[name].read_text())


def test_the_chart_is_of_the_version_that_is_built():
    version = re.search(r"project\(secateur VERSION (\S+)", (ROOT / "CMakeLists.txt").read_text()).group(1)
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["appVersion"] == version
    assert container_of(render("insecure"))["image"] == f"secateur:{version}"
    assert container_of(render("tls"))["image"].startswith("registry.example:5000/ml/secateur@sha256:0123")
