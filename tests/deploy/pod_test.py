"""The built secateurd takes what the chart renders: every flag and variable is one of its own, and it starts with
them, answers the probes where Kubernetes asks, serves gRPC on the Service's port, and ends in time."""
import json
import os
import re
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request

import grpc
import pytest
from chart import VALUES, container_of, pod_of, render
from grpc_health.v1 import health_pb2, health_pb2_grpc

PATIENCE = 120  # seconds: other tests run beside this one, and under sanitizers
PORTS = {"0.0.0.0:8470": "0.0.0.0:0", "0.0.0.0:8471": "0.0.0.0:0"}


@pytest.fixture(scope="module")
def usage():
    done = subprocess.run([os.environ["SECATEURD"], "--help"], text=True, capture_output=True, check=True)
    return done.stdout


@pytest.mark.parametrize("name", VALUES)
def test_every_flag_and_variable_is_one_of_the_servers(name, usage):
    objects = render(name)
    flags = {argument.split("=")[0] for argument in container_of(objects)["args"]}
    assert "--model" in flags and flags <= set(re.findall(r"--[a-z-]+", usage))
    assert set(objects["ConfigMap"]["data"]) <= set(re.findall(r"Env:(SECATEUR_[A-Z_]+)", usage))


@pytest.mark.parametrize("name", VALUES)
def test_ports_of_server_container_and_service_are_the_same(name):
    objects = render(name)
    settings, container = objects["ConfigMap"]["data"], container_of(objects)
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert settings["SECATEUR_LISTEN"].endswith(f":{ports['grpc']}")
    assert settings["SECATEUR_METRICS"].endswith(f":{ports['metrics']}")
    for kind in ("startup", "readiness", "liveness"):
        assert container[f"{kind}Probe"]["httpGet"]["port"] == "metrics"
    assert {port["targetPort"] for port in objects["Service"]["spec"]["ports"]} <= set(ports)


def make_certificates(folder):
    """As a Secret holds them: an authority, and a certificate of it that serves for both sides."""
    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    openssl("req", "-x509", *curve, "-subj", "/CN=authority", "-days", "2", "-keyout", "ca.key", "-out", "ca.crt")
    openssl("req", *curve, "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost",
            "-keyout", "tls.key", "-out", "tls.csr")
    openssl("x509", "-req", "-in", "tls.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-copy_extensions", "copy", "-days", "2",
            "-out", "tls.crt")


class Pod:
    """The container's program with its arguments and variables; mounted folders are folders of this machine."""

    def __init__(self, objects, folder, secret=None):
        self.secret = secret or {}
        self.container = container_of(objects)
        self.grace = pod_of(objects)["terminationGracePeriodSeconds"]
        self.mounts = {mount["mountPath"]: folder / mount["name"] for mount in self.container["volumeMounts"]}
        for place in self.mounts.values():
            place.mkdir()
        models = folder / "models/smollm2-135m-instruct"
        models.symlink_to(os.environ["SECATEUR_SMOLLM2"])
        self.tls = self.mounts.get("/etc/secateur/tls")
        if self.tls:
            make_certificates(self.tls)
        self.settings = {name: self.here(value) for name, value in objects["ConfigMap"]["data"].items()}
        self.arguments = [self.here(argument) for argument in self.container["args"]]
        self.log = folder / "log"

    def here(self, text):
        """The text with the paths of this machine. A path that nothing is mounted at is an error of the chart's."""
        if text in PORTS:
            return PORTS[text]
        head, path = re.fullmatch(r"((?:[^/=]*=)*(?:file:)?)(/.*)?.*", text).groups()
        if not path:
            return text
        (mount,) = [mount for mount in self.mounts if path == mount or path.startswith(mount + "/")]
        return head + str(self.mounts[mount]) + path[len(mount):]

    def __enter__(self):
        environment = {name: value for name, value in os.environ.items() if not name.startswith("SECATEUR_")}
        environment.update(self.settings, **self.secret, TMPDIR=str(self.mounts["/tmp"]))
        with open(self.log, "w") as log:
            self.process = subprocess.Popen([os.environ["SECATEURD"], *self.arguments], env=environment, stderr=log)
        return self

    def __exit__(self, *error):
        self.process.kill()
        self.process.wait()

    def said(self, message):
        """The fields of the first log line with this message."""
        def find():
            assert self.process.poll() is None, self.log.read_text()
            lines = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{") and line.endswith("}")]
            return next((line for line in lines if line["message"] == message), None)
        return eventually(find, self.log.read_text)

    def probe(self, kind):
        """Status and text that the kubelet would get."""
        path = self.container[f"{kind}Probe"]["httpGet"]["path"]
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.said('listening')['metrics_port']}{path}") as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def channel(self):
        address = f"localhost:{self.said('listening')['port']}"
        if not self.tls:
            return grpc.insecure_channel(address)
        authority, key, certificate = ((self.tls / name).read_bytes() for name in ("ca.crt", "tls.key", "tls.crt"))
        return grpc.secure_channel(address, grpc.ssl_channel_credentials(authority, key, certificate))


def eventually(find, why=lambda: ""):
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        found = find()
        if found:
            return found
        time.sleep(0.1)
    raise AssertionError(f"not within {PATIENCE} s\n{why()}")


@pytest.mark.parametrize("name", ["insecure", "tls"])
def test_the_server_starts_as_rendered_and_ends_in_time(name, tmp_path):
    with Pod(render(name), tmp_path) as pod:
        assert pod.probe("liveness") == (200, "ok\n")
        eventually(lambda: pod.probe("startup")[0] == 200)
        eventually(lambda: pod.probe("readiness") == (200, "ok\n"))
        with pod.channel() as channel:
            health = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=PATIENCE)
            assert health.status == health_pb2.HealthCheckResponse.SERVING
        assert any((tmp_path / "store").iterdir())
        pod.process.send_signal(signal.SIGTERM)
        assert pod.process.wait(timeout=pod.grace) == 0


@pytest.fixture
def bucket(tmp_path):
    """The address of a real S3 server that has an empty bucket "experts", and the folder behind it."""
    (tmp_path / "s3/experts").mkdir(parents=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    server = subprocess.Popen([os.environ["SECATEUR_VERSITYGW"], "--quiet", "--port", address, "--health", "/healthz", "posix",
                               tmp_path / "s3"], env=dict(os.environ, ROOT_ACCESS_KEY="key", ROOT_SECRET_KEY="secret"))
    eventually(lambda: answers(f"http://{address}/healthz"))
    yield address, tmp_path / "s3/experts"
    server.kill()
    server.wait()


def answers(url):
    try:
        return urllib.request.urlopen(url).status == 200
    except OSError:
        return False


def test_a_pod_keeps_its_store_in_a_bucket(bucket, tmp_path):
    address, folder = bucket
    uri = f"s3://experts/secateur?scheme=http&region=us-east-1&endpoint_override={address}"
    objects = render("insecure", "--set-string", f"store.uri={uri}", "--set", "store.credentialsSecret=bucket-keys")
    assert {"secretRef": {"name": "bucket-keys"}} in container_of(objects)["envFrom"]
    assert "PersistentVolumeClaim" not in objects
    with Pod(objects, tmp_path, dict(AWS_ACCESS_KEY_ID="key", AWS_SECRET_ACCESS_KEY="secret")) as pod:
        eventually(lambda: pod.probe("readiness") == (200, "ok\n"), pod.log.read_text)
        assert any(path.is_file() for path in (folder / "secateur/tenants/default").rglob("*"))
        pod.process.send_signal(signal.SIGTERM)
        assert pod.process.wait(timeout=pod.grace) == 0
        assert "secret" not in pod.log.read_text()


def test_a_bad_variable_ends_the_server(tmp_path):
    objects = render("insecure")
    objects["ConfigMap"]["data"]["SECATEUR_WORKERS"] = "many"
    with Pod(objects, tmp_path) as pod:
        assert pod.process.wait(timeout=PATIENCE) == 2
