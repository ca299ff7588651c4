"""Makes the rows of jobs, one after the other, and finds those that are made."""
import contextlib
import json
import struct
import time

import grpc
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import judge
from baselines import kept_width
from cache import digest, folder_digest
from corpora import judged_text, language_text
from evaluate import Scorer
from ours import Ours
from peers import Peers
from protocol import ALIGNMENT, ALL_PEERS, BASES
from server import Refused


class LoadedBase:
    """A base model's folder: sizes, tokenizer, and its weights once somebody asks for them."""

    def __init__(self, data, folder):
        self.data, self.folder = data, folder
        config = json.loads((folder / "config.json").read_text())
        self.width, self.layers = config["intermediate_size"], config["num_hidden_layers"]
        self.tok = AutoTokenizer.from_pretrained(folder)
        self.digest = folder_digest(folder)
        self.parameters = sum(map(_parameters, folder.glob("*.safetensors")))
        self._model = None

    @property
    def model(self):
        if self._model is None:
            self._model = AutoModelForCausalLM.from_pretrained(self.folder, dtype=torch.float32).eval()
        return self._model

    def keep(self, ratio):
        return kept_width(self.width, ratio, ALIGNMENT)


def _parameters(safetensors):
    """Elements of all tensors of the file; a tied head is in it once."""
    with safetensors.open("rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
    count = lambda shape: shape[0] * count(shape[1:]) if shape else 1
    return sum(count(entry["shape"]) for name, entry in header.items() if name != "__metadata__")


class Rows:
    """Rows by job. Where the program was not built, recipes that have no row are left out."""

    def __init__(self, folders, corpora, recipes, file, program, again):
        """`again`: rows of ours that another build made do not count."""
        self.corpora, self.recipes, self.file, self.program, self.again = corpora, recipes, file, program, again
        self.skipped, self.failed = {}, {}  # why a job has no row: not served, or broken
        self._folders, self._bases, self._makers, self._judged = folders, {}, {}, {}

    # What is made

    def find(self, job):
        """The row of the job, or None."""
        row = self.file.get(self._key(job))
        if row and self.again and "build" in row and row["build"] != self.program.build:
            return None
        return row and dict(row, method=job.method, ratio=job.ratio, draw=job.draw)

    def _made_digest(self, job):
        if job.method == "dense":
            return digest(["dense", self._base(job.base).digest])
        maker = self._peers(job.base) if job.method in ALL_PEERS else self._ours(job.base)
        return maker.made_digest(job)

    def _key(self, job):
        if job.kind == "choices":
            judged = judge.choices_judgement_digest(self.corpora.choice_docs(job.cell))
        else:
            judged = judge.text_judgement_digest(self._text(job))
        return digest([self._made_digest(job), judged])

    def _text(self, job):
        key = job.base, job.cell, job.kind
        if key not in self._judged:
            tok = self._base(job.base).tok
            self._judged[key] = (language_text(self.corpora, tok, job.cell) if job.kind == "language" else
                                 judged_text(self.corpora, tok, BASES[job.base], job.cell))
        return self._judged[key]

    def _base(self, key):
        if key not in self._bases:
            self._bases[key] = LoadedBase(BASES[key], self._folders[key])
        return self._bases[key]

    def _peers(self, key):
        if ("peers", key) not in self._makers:
            self._makers["peers", key] = Peers(self._base(key), self.corpora)
        return self._makers["peers", key]

    def _ours(self, key):
        if ("ours", key) not in self._makers:
            self._makers["ours", key] = Ours(self._base(key), self.corpora, self.recipes, self.program)
        return self._makers["ours", key]

    # Making

    def make(self, job, others=()):
        """Makes, keeps and returns the row; None if it is skipped or failed. `others` are jobs that may come later: text that they share is run once."""
        if row := self.find(job):  # methods that read no text have one row for all draws
            return row
        refused = next((why for j, why in self.skipped.items() if (j.base, j.method) == (job.base, job.method)), None)
        try:
            if refused:
                raise Refused(refused)
            with self._scorer(job, others) as (scorer, facts):
                return self._judge(job, scorer, facts)
        except Refused as error:
            self.skipped[job] = str(error)
        except (grpc.RpcError, RuntimeError) as error:
            self.failed[job] = error.details() if isinstance(error, grpc.RpcError) else str(error)
            self.close_servers()  # it may be the server that broke: the next job starts a new one

    def _judge(self, job, scorer, facts):
        started = time.monotonic()
        if job.kind == "choices":
            result = judge.judge_choices(scorer, self.corpora.choice_docs(job.cell))
        else:
            result = judge.judge_text(scorer, self._text(job))
        row = dict(model=job.base, base=BASES[job.base].name, cell=job.cell, method=job.method, kind=job.kind,
                   ratio=job.ratio, draw=job.draw, **facts, **result, seconds_judged=round(time.monotonic() - started, 1))
        self.file.put(self._key(job), row)
        return row

    @contextlib.contextmanager
    def _scorer(self, job, others):
        """A Scorer, and what there is to say about its model."""
        base = self._base(job.base)
        if job.method == "dense":
            yield Scorer(base.model, base.tok), dict(
                width=base.width, layers=base.layers, parameters=base.parameters, removed=0.0)
        elif job.method in ALL_PEERS:
            self.close_servers()
            gram = any(o.method in ALL_PEERS and ALL_PEERS[o.method].method == "obs" and o.base == job.base
                       and o.cell == job.cell and o.draw == job.draw for o in (job, *others))
            model, facts = self._peers(job.base).make(job, gram)
            yield Scorer(model, base.tok), facts
        elif not self.program.build:
            raise Refused("no secateurd: build it, or say --bin")
        else:
            with self._ours(job.base).made(job) as made:
                yield made

    def close_servers(self):
        for (kind, _), maker in self._makers.items():
            if kind == "ours":
                maker.close()
