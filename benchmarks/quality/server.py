"""A real secateurd on one base model and one store, asked over gRPC as any client would."""
import ctypes
import functools
import importlib
import json
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

import grpc
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf import json_format
from grpc_tools import protoc

NAMES = ("expert_spec", "expert_report", "resources", "operation", "manifest", "secateur")
CHUNK = 1 << 20


class Refused(Exception):
    """The server, or the API of this checkout, does not know what a recipe asks for."""


@functools.cache
def load_protos(proto_folder, other_protos):
    """Python modules of the API, by file name; generated once a process."""
    with tempfile.TemporaryDirectory(prefix="secateur-stubs-") as folder:
        files = [f"{proto_folder}/secateur/v1/{name}.proto" for name in NAMES]
        if protoc.main(["protoc", f"-I{proto_folder}", f"-I{other_protos}", f"--python_out={folder}",
                        f"--grpc_python_out={folder}", *files]):
            sys.exit("protoc failed")
        sys.path.insert(0, folder)
        modules = {name: importlib.import_module(f"secateur.v1.{name}_pb2") for name in NAMES}
        modules["grpc"] = importlib.import_module("secateur.v1.secateur_pb2_grpc")
        sys.path.remove(folder)
    return modules


def _end_with_parent():
    """In the child: SIGTERM when the process that started it is gone, however that ended."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


class Server:
    """Started by entering it, stopped by leaving it; its log is beside the store."""

    def __init__(self, program, protos, model, folder, store, threads):
        self.parent = f"models/{model}"
        self.store, self._protos = pathlib.Path(store), protos
        self.store.mkdir(parents=True, exist_ok=True)
        self._log = self.store.parent / f"{self.store.name}.log"
        self._command = [str(program), "--model", f"{model}={folder}", "--store", f"file:{self.store}",
                         "--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0", "--threads", str(threads)]

    def __enter__(self):
        with self._log.open("w") as log:
            self._process = subprocess.Popen(self._command, stderr=log, preexec_fn=_end_with_parent)
        channel = grpc.insecure_channel(f"127.0.0.1:{self._wait_until_serving()}")
        self._stub = self._protos["grpc"].SecateurStub(channel)
        self._operations = operations_pb2_grpc.OperationsStub(channel)
        return self

    def __exit__(self, *_):
        self._process.terminate()
        self._process.wait()

    def _wait_until_serving(self):
        while True:
            for line in self._log.read_text().splitlines():
                if '"message":"serving"' in line:
                    return json.loads(line)["port"]
            if self._process.poll() is not None:
                sys.exit(f"secateurd ended: {self._log.read_text()}")
            time.sleep(0.05)

    def upload(self, text, labels):
        """Name of the corpus of these JSON Lines (bytes), new or known."""
        api, resources = self._protos["secateur"], self._protos["resources"]

        def messages():
            yield api.UploadCorpusRequest(metadata=api.UploadCorpusMetadata(corpus=resources.Corpus(labels=labels)))
            for at in range(0, len(text), CHUNK):
                yield api.UploadCorpusRequest(data=text[at:at + CHUNK])
            yield api.UploadCorpusRequest(finish=True)
        return self._stub.UploadCorpus(messages()).corpus.name

    def delete_corpora_with(self, labels):
        """Deletes the corpora that carry all these labels, and their profiles."""
        api = self._protos["secateur"]
        condition = " AND ".join(f'labels.{key} = "{value}"' for key, value in labels.items())
        for corpus in self._stub.ListCorpora(api.ListCorporaRequest(filter=condition, page_size=1000)).corpora:
            self._stub.DeleteCorpus(api.DeleteCorpusRequest(name=corpus.name, force=True))

    def profile_all(self):
        """Profiles every calibration corpus; what is cached costs nothing."""
        self._wait(self._stub.CreateProfile(self._protos["secateur"].CreateProfileRequest(parent=self.parent, filter="*")),
                   self._protos["operation"].CreateProfileResponse())

    def spec(self, fields, select, neuron_ratio):
        """ExpertSpec of a recipe's fields. Raises Refused where this checkout's API lacks one."""
        budget = {} if neuron_ratio is None else {"budget": {"neuron_ratio": neuron_ratio}}
        whole = dict(fields, select=[{"key": k, "values": [v]} for k, v in select.items()], **budget)
        try:
            return json_format.ParseDict(whole, self._protos["expert_spec"].ExpertSpec())
        except json_format.ParseError as error:
            raise Refused(str(error)) from error

    def check(self, spec):
        """Raises Refused if the server does not honour the spec; anything else it may lack is no matter here."""
        try:
            self._create(spec, validate_only=True)
        except grpc.RpcError:
            pass

    def create_expert(self, spec):
        """The Expert, made by this server now, whatever its store holds from earlier builds."""
        refresh = self._protos["secateur"].REFRESH
        return self._wait(self._create(spec, cache_policy=refresh), self._protos["resources"].Expert())

    def delete_expert(self, name):
        self._stub.DeleteExpert(self._protos["secateur"].DeleteExpertRequest(name=name))

    def _create(self, spec, **options):
        try:
            return self._stub.CreateExpert(
                self._protos["secateur"].CreateExpertRequest(parent=self.parent, spec=spec, **options))
        except grpc.RpcError as error:
            if error.code() == grpc.StatusCode.UNIMPLEMENTED:
                raise Refused(error.details()) from error
            raise

    def _wait(self, operation, message):
        while not operation.done:
            operation = self._operations.WaitOperation(operations_pb2.WaitOperationRequest(name=operation.name))
        if not operation.response.Unpack(message):
            raise RuntimeError(f"{operation.name}: {operation.error.message or operation}")
        return message
