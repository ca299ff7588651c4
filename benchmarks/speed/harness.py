"""What the parts of the benchmark share: places, and a real server on the demo model."""
import json
import math
import os
import pathlib
import re
import statistics
import subprocess
import sys
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
CACHE = pathlib.Path(os.environ.get("SECATEUR_CACHE") or
                     pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "secateur")
BIN = ROOT / "build/release/bin"
THREADS = 2


def setting(name):
    """A variable that scripts/setup wrote."""
    found = re.search(rf"{name}=[\"']?([^\"'\n]+)", (CACHE / "env.sh").read_text())
    return os.environ.get(name) or found.group(1)


class Server:
    """A real secateurd on SmolLM2, by default with the corpora of examples/ uploaded and profiled."""

    def __init__(self, scratch, examples=True):
        self.folder = setting("SECATEUR_SMOLLM2")
        self.log = pathlib.Path(scratch) / "log"
        started = time.perf_counter()
        self.process = subprocess.Popen(
            [BIN / "secateurd", "--model", f"smollm2={self.folder}", "--store", f"file:{scratch}/store",
             "--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0", "--threads", str(THREADS)],
            stderr=self.log.open("w"))
        while '"message":"serving"' not in self.log.read_text():
            if self.process.poll() is not None:
                sys.exit(self.log.read_text())
            time.sleep(0.005)
        self.seconds_to_ready = time.perf_counter() - started
        serving = next(json.loads(l) for l in self.log.read_text().splitlines() if '"serving"' in l)
        self.environment = dict(os.environ, SECATEUR_SERVER=f"127.0.0.1:{serving['port']}")
        self.metrics = f"http://127.0.0.1:{serving['metrics_port']}/metrics"
        if examples:
            self.load_examples(scratch)

    def load_examples(self, scratch):
        stubs = pathlib.Path(scratch) / "stubs"
        stubs.mkdir()
        protos = ["expert_spec", "expert_report", "resources", "operation", "secateur"]
        subprocess.run([sys.executable, "-m", "grpc_tools.protoc", "-I", ROOT / "proto", "-I", CACHE / "protos",
                        f"--python_out={stubs}", f"--grpc_python_out={stubs}",
                        *[ROOT / f"proto/secateur/v1/{p}.proto" for p in protos]], check=True)
        sys.path.insert(0, str(stubs))
        import grpc
        from google.longrunning import operations_pb2, operations_pb2_grpc
        from secateur.v1 import expert_spec_pb2, secateur_pb2, secateur_pb2_grpc
        self.api, self.specs = secateur_pb2, expert_spec_pb2
        channel = grpc.insecure_channel(self.environment["SECATEUR_SERVER"])
        self.stub = secateur_pb2_grpc.SecateurStub(channel)
        self.operations, self.operation_stub = operations_pb2, operations_pb2_grpc.OperationsStub(channel)
        self.cli("corpus", "upload", "--manifest", ROOT / "examples/corpora/manifest.json")
        self.cli("profile", "create", "--all")

    def cli(self, *words):
        subprocess.run([BIN / "secateur", *map(str, words)], check=True, env=self.environment,
                       stdout=subprocess.DEVNULL)

    def spec(self, ratio):
        r = self.specs
        return r.ExpertSpec(select=[r.DimensionSelection(key=k, values=[v]) for k, v in
                                    (("language", "en"), ("domain", "medical"), ("task", "qa"))],
                            rule=r.RELATIVE_MEAN, budget=r.Budget(neuron_ratio=ratio))

    def cancelled(self, name):
        """Cancels the operation and waits for its end; False where it was done before."""
        self.operation_stub.CancelOperation(self.operations.CancelOperationRequest(name=name))
        done = self.operation_stub.WaitOperation(self.operations.WaitOperationRequest(name=name), timeout=120)
        assert done.done, done
        if done.WhichOneof("result") == "response":
            return False
        assert done.error.code == 1, done  # CANCELLED
        return True

    def expert_phases(self):
        """Seconds that the making of experts has spent in each phase so far."""
        with urllib.request.urlopen(self.metrics) as answer:
            samples = re.findall(r'^secateur_operation_phase_duration_seconds_sum\{(.*)\} (.*)$',
                                 answer.read().decode(), re.MULTILINE)
        return {re.search('phase="(.*?)"', labels)[1]: float(seconds) for labels, seconds in samples
                if 'type="CreateExpert"' in labels}

    def anonymous_bytes(self):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"RssAnon:\s+(\d+) kB", status).group(1)) * 1024

    def stop(self):
        self.process.terminate()
        self.process.wait()


def quantile(values, q):
    return sorted(values)[max(0, math.ceil(q * len(values)) - 1)]


def median_ms(call, count):
    times = []
    for i in range(count):
        started = time.perf_counter()
        call(i)
        times.append((time.perf_counter() - started) * 1e3)
    return statistics.median(times)


def timed(*command, env=None):
    started = time.perf_counter()
    subprocess.run([*map(str, command)], check=True, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - started
