"""What operations cost, how many clients can ask for them, and how soon they stop."""
import json
import random
import statistics
import subprocess
import tempfile
import time

from harness import BIN, ROOT, Server, quantile

OPERATIONS, CLIENTS, SECONDS, CANCELS = 200, 1000, 10, 30


def operations_speed(*words):
    return json.loads(subprocess.check_output([BIN / "secateur_operations_speed", *map(str, words)], stderr=subprocess.DEVNULL))


def durable(speed, args):
    """An operation that does nothing, over the same bytes in plain files that are synced; and one that waits too long."""
    with tempfile.TemporaryDirectory(dir=ROOT / "build") as folder:
        row = operations_speed("durable", folder, args.rounds, OPERATIONS)
    with tempfile.TemporaryDirectory(dir=ROOT / "build") as folder:
        late = operations_speed("lateness", folder, OPERATIONS)
    ratios = [ours / theirs for ours, theirs in zip(row["operation_ms"], row["plain_files_ms"])]
    return dict(durable_operation_ms=statistics.median(row["operation_ms"]),
                durable_operation_vs_plain_files=statistics.median(ratios),
                queue_late_p99_ms=late["late_p99_ms"],
                durable_detail=dict(min=min(ratios), max=max(ratios), plain_files_ms=statistics.median(row["plain_files_ms"]),
                                    objects_per_operation=row["objects_per_operation"], **late))


def ask(address, method, request):
    words = [BIN / "secateur_load", address, method, str(CLIENTS), str(SECONDS)]
    row = json.loads(subprocess.check_output(words, input=request))
    assert row["failures"] == 0, row
    return row


def load(speed, args):
    """GetOperation of a thousand clients, over gRPC's hello world asked by the same tool."""
    with tempfile.TemporaryDirectory() as scratch:
        server = Server(scratch)
        parent = "models/smollm2"
        name = server.stub.CreateProfile(server.api.CreateProfileRequest(parent=parent, filter="*")).name
        request = b"\x0a" + bytes([len(name)]) + name.encode()  # both messages are one string, field 1
        peer = subprocess.Popen([BIN / "secateur_load", "serve"], stdout=subprocess.PIPE, text=True)
        try:
            greeter = f"127.0.0.1:{int(peer.stdout.readline())}"
            pairs = [(ask(server.environment["SECATEUR_SERVER"], "/google.longrunning.Operations/GetOperation", request),
                      ask(greeter, "/helloworld.Greeter/SayHello", request)) for _ in range(args.rounds + 1)][1:]
        finally:
            peer.kill()
            peer.wait()
            server.stop()
    out = {"load_detail": dict(clients=CLIENTS, ours=[ours for ours, _ in pairs], hello=[theirs for _, theirs in pairs])}
    for key in ("p50_ms", "p99_ms"):
        out[f"get_operation_{key}"] = statistics.median(ours[key] for ours, _ in pairs)
        out[f"get_operation_vs_hello_{key[:3]}"] = statistics.median(ours[key] / theirs[key] for ours, theirs in pairs)
    return out


def cancel(speed, args):
    """From CancelOperation to the end of an expert that is being made, at random moments, with second-order selection and without."""
    seconds, rng = [], random.Random(1)
    with tempfile.TemporaryDirectory() as scratch:
        server = Server(scratch)
        while len(seconds) < CANCELS:
            spec = server.spec(rng.uniform(0.1, 0.5))
            slow = len(seconds) % 2 == 0
            spec.rule = server.specs.SECOND_ORDER if slow else server.specs.RELATIVE_MEAN
            create = server.api.CreateExpertRequest(parent="models/smollm2", spec=spec)
            name = server.stub.CreateExpert(create).name
            time.sleep(rng.uniform(0, 40 if slow else 5))
            started = time.perf_counter()
            if server.cancelled(name):
                seconds.append(time.perf_counter() - started)
        server.stop()
    return dict(cancel_p99_s=quantile(seconds, 0.99), cancel_median_s=statistics.median(seconds),
                cancel_max_s=max(seconds))
