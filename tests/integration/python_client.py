"""The program, used by a client that has nothing of ours but the protos.

Starts secateurd on free ports, uploads two corpora, profiles them, makes an expert, downloads it,
loads it with stock Transformers (any warning is an error), generates, and stops the server.
Environment: SECATEURD, SECATEUR_PROTOS (folders, ':' between them), SECATEUR_CORPORA,
SECATEUR_SMOLLM2.
"""

import hashlib
import importlib
import json
import logging
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import threading
import warnings

import grpc
from google.longrunning import operations_pb2, operations_pb2_grpc
from grpc_tools import protoc

PROTOS = os.environ["SECATEUR_PROTOS"].split(":")
NAMES = ("expert_spec", "expert_report", "resources", "operation", "manifest", "secateur")


def generate(folder):
    """Python modules of our protos, by the name of the file."""
    includes = [f"-I{path}" for path in PROTOS]
    files = [f"{PROTOS[0]}/secateur/v1/{name}.proto" for name in NAMES]
    code = protoc.main(["protoc", *includes, f"--python_out={folder}",
                        f"--grpc_python_out={folder}", *files])
    assert code == 0, "protoc failed"
    sys.path.insert(0, str(folder))
    modules = {name: importlib.import_module(f"secateur.v1.{name}_pb2") for name in NAMES}
    modules["grpc"] = importlib.import_module("secateur.v1.secateur_pb2_grpc")
    return modules


def start(folder):
    """The server's process and the port from its log."""
    server = subprocess.Popen(
        [os.environ["SECATEURD"], "--model", f"smollm2={os.environ['SECATEUR_SMOLLM2']}",
         "--store", f"file:{folder}/store", "--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0"],
        stderr=subprocess.PIPE, text=True)
    port = None
    for line in server.stderr:
        entry = json.loads(line)  # every line is JSON
        if entry["message"] == "listening":
            port = entry["port"]
            break
    assert port, "the server did not start"
    log = []
    threading.Thread(target=lambda: log.extend(server.stderr), daemon=True).start()
    return server, port, log


class Client:
    def __init__(self, protos, port):
        self.secateur, self.resources = protos["secateur"], protos["resources"]
        self.spec = protos["expert_spec"]
        self.operation = protos["operation"]
        channel = grpc.insecure_channel(f"127.0.0.1:{port}")
        # Starting is UNAVAILABLE, which gRPC itself tries again.
        self.stub = protos["grpc"].SecateurStub(channel)
        self.operations = operations_pb2_grpc.OperationsStub(channel)

    def wait_until_ready(self):
        ready = threading.Event()
        for _ in range(600):
            model = self.stub.ListModels(self.secateur.ListModelsRequest()).models[0]
            if model.state == self.resources.Model.READY and model.digest:
                return
            ready.wait(0.2)
        raise AssertionError("the model did not get ready")

    def upload(self, path, labels):
        def messages():
            yield self.secateur.UploadCorpusRequest(
                metadata=self.secateur.UploadCorpusMetadata(
                    corpus=self.resources.Corpus(labels=labels)))
            data = path.read_bytes()
            for at in range(0, len(data), 1000):
                yield self.secateur.UploadCorpusRequest(data=data[at:at + 1000])
            yield self.secateur.UploadCorpusRequest(finish=True)
        return self.stub.UploadCorpus(messages()).corpus

    def wait(self, operation, message):
        while not operation.done:
            operation = self.operations.WaitOperation(
                operations_pb2.WaitOperationRequest(name=operation.name))
        assert operation.HasField("response"), operation
        assert operation.response.Unpack(message), operation
        return message

    def download(self, expert, folder):
        folder.mkdir()
        for file in expert.files:
            digest = hashlib.sha256()
            request = self.secateur.DownloadExpertFileRequest(name=expert.name, file=file.name)
            with open(folder / file.name, "wb") as out:
                for response in self.stub.DownloadExpertFile(request):
                    out.write(response.data)
                    digest.update(response.data)
            assert digest.hexdigest() == file.sha256, file.name


def make_expert(client):
    corpora = pathlib.Path(os.environ["SECATEUR_CORPORA"])
    used = []
    for name in ("en-math-reasoning", "en-legal-summarization"):
        language, domain, task = name.split("-")
        used.append(client.upload(corpora / f"{name}.jsonl",
                                  {"language": language, "domain": domain, "task": task}))
    profiled = client.wait(
        client.stub.CreateProfile(client.secateur.CreateProfileRequest(
            parent="models/smollm2", corpora=[corpus.name for corpus in used])),
        client.operation.CreateProfileResponse())
    assert len(profiled.profiles) == 2 and profiled.cached_count == 0, profiled
    selection = client.spec.DimensionSelection
    spec = client.spec.ExpertSpec(
        select=[selection(key="language", values=["en"]), selection(key="domain", values=["math"])],
        rule=client.spec.RELATIVE_MEAN, budget=client.spec.Budget(neuron_ratio=0.25))
    expert = client.wait(
        client.stub.CreateExpert(client.secateur.CreateExpertRequest(
            parent="models/smollm2", spec=spec)),
        client.resources.Expert())
    assert expert.size.width == 1152 and expert.base_size.width == 1536, expert.size
    return expert


def load_and_generate(folder, width):
    """With stock Transformers: no remote code, no warning, finite logits, eight tokens."""
    import torch
    import transformers
    messages = []
    collect = logging.Handler(level=logging.WARNING)
    collect.emit = lambda record: messages.append(record.getMessage())
    logging.getLogger("transformers").addHandler(collect)
    warnings.simplefilter("error")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    # In float32: not every build of torch does bfloat16 on every processor.
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    assert model.config.intermediate_size == width
    batch = tokenizer("Two plus three is", return_tensors="pt")
    with torch.no_grad():
        logits = model(**batch).logits
        tokens = model.generate(**batch, max_new_tokens=8, min_new_tokens=8, do_sample=False)
    assert logits.shape == (1, batch["input_ids"].shape[1], model.config.vocab_size), logits.shape
    assert torch.isfinite(logits).all()
    assert tokens.shape[1] == batch["input_ids"].shape[1] + 8, tokens.shape
    assert not messages, messages
    print("generated:", tokenizer.decode(tokens[0]))


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        stubs = folder / "stubs"
        stubs.mkdir()
        protos = generate(stubs)
        server, port, log = start(folder)
        try:
            client = Client(protos, port)
            client.wait_until_ready()
            expert = make_expert(client)
            client.download(expert, folder / "expert")
            server.send_signal(signal.SIGTERM)
            code = server.wait(timeout=60)
        finally:
            if server.poll() is None:
                server.kill()
        assert code == 0, f"exit code {code}: {log[-5:]}"
        load_and_generate(str(folder / "expert"), expert.size.width)


main()
