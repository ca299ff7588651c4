"""Rows of experts that the real server makes: which text it is given, what is asked of it, what is judged."""
import contextlib
import dataclasses
import functools
import json
import os
import pathlib
import shutil
import time
import urllib.parse

from google.protobuf import json_format

from cache import digest, file_digest
from evaluate import Scorer, spread
from protocol import DRAW_DOCS, DRAW_TOKENS, EVERY_TEXT_DOCS, EXAMS_ELSEWHERE
from server import Server, load_protos

EVERY_TEXT = {"collection": "benchmark"}  # a label of all uploads, to select general text by
JUDGED_FILES = ("config.json", "tokenizer.json")


@dataclasses.dataclass(frozen=True)
class Program:
    """The server's program, the protos to ask it by, and how it runs."""
    secateurd: pathlib.Path
    proto_folder: pathlib.Path
    other_protos: pathlib.Path
    threads: int
    stores: pathlib.Path  # folder of the servers' stores
    keep_experts: bool = False  # else an expert's folder is deleted once it has been judged

    @functools.cached_property
    def build(self):
        """Digest of the program; None if it was not built."""
        return file_digest(self.secateurd)[:16] if self.secateurd.exists() else None


def json_lines(docs):
    return "".join(json.dumps(d, ensure_ascii=False) + "\n" for d in docs).encode()


class Ours:
    """Makes rows of recipes on one base. One server runs at a time, on the store that the recipe's text needs.

    Stores stay: the server finds its profiles again. close() stops the server.
    """

    def __init__(self, base, corpora, recipes, program):
        self.base, self.corpora, self.recipes, self.program = base, corpora, recipes, program
        self._stack = contextlib.ExitStack()
        self._server, self._store, self._uploaded, self._profiled = None, None, set(), set()

    # What decides an expert

    def _select(self, job):
        labels = self.corpora.labels(job.cell)
        if self.recipes[job.method].without_own_file:  # what other files do not carry cannot be asked for
            others = [self.corpora.labels(c).items() for c in self._cells(job)]
            labels = {k: v for k, v in labels.items() if any((k, v) in other for other in others)}
        return {"all": EVERY_TEXT, "language": {"language": labels["language"]}, "cell": labels}[self.recipes[job.method].select]

    def _cells(self, job):
        recipe = self.recipes[job.method]
        cells = [job.cell] if recipe.corpora == "cell" else self._every_cell(recipe)
        if recipe.corpora == "language":
            language = self.corpora.labels(job.cell)["language"]
            cells = [c for c in cells if self.corpora.labels(c)["language"] == language]
        return [c for c in cells if not (recipe.without_own_file and c == job.cell)]

    def _every_cell(self, recipe):
        """The cells of the store that the recipe is made from."""
        left_out = () if recipe.corpora == "language" else EXAMS_ELSEWHERE
        return [c for c in self.corpora.cells()
                if c not in left_out and self.base.data.reads(self.corpora.labels(c)["language"])]

    def _documents(self, job, cell):
        recipe = self.recipes[job.method]
        if recipe.text == "draw":
            return self.corpora.draw(cell, DRAW_DOCS, job.draw)
        docs = self.corpora.profile_docs(cell)
        many = recipe.corpora == "all" and not self.base.data.languages
        return spread(docs, EVERY_TEXT_DOCS) if many and cell not in self.base.data.cells else docs

    def _fields(self, job):
        recipe = self.recipes[job.method]
        return dict(recipe.spec, max_document_tokens=DRAW_TOKENS) if recipe.text == "draw" else recipe.spec

    def _neuron_ratio(self, job):
        """The share that comes to exactly the peers' width; None where no neurons go."""
        return 1 - self.base.keep(job.ratio) / self.base.width if job.ratio else None

    def made_digest(self, job):
        """Of everything that decides the expert but the server's program, which the row names."""
        texts = [[c, [d["text"] for d in self._documents(job, c)]] for c in self._cells(job)]
        if self.recipes[job.method].spec.get("source") in ("COMPOSE", "BLEND"):  # which go by labels
            texts = [[*text, self.corpora.labels(text[0])] for text in texts]
        return digest(dict(fields=self._fields(job), select=self._select(job), ratio=self._neuron_ratio(job),
                           texts=texts, base=self.base.digest))

    # Making

    @contextlib.contextmanager
    def made(self, job):
        """The expert as a Scorer, and what there is to say about it; its folder is gone afterwards. Raises server.Refused."""
        server, started = self._serving(job), time.monotonic()
        expert = server.create_expert(self._spec(job))
        try:
            facts = dict(self._facts(expert), seconds_made=round(time.monotonic() - started, 1))
            yield Scorer.load(urllib.parse.unquote(urllib.parse.urlparse(expert.uri).path)), facts
        finally:
            if not self.program.keep_experts:
                server.delete_expert(expert.name)

    def _facts(self, expert):
        as_json = json_format.MessageToDict(expert, preserving_proto_field_name=True)
        chosen = as_json.get("compensation", {}).get("chosen")
        files = {f.name: f.sha256 for f in expert.files if f.name.endswith(".safetensors") or f.name in JUDGED_FILES}
        return dict(width=expert.size.width, layers=self.base.layers, parameters=expert.size.parameter_count,
                    removed=round(expert.size.parameter_reduction, 5),
                    calibration_tokens=expert.compensation.calibration_token_count or None, chosen=chosen,
                    expert=expert.name, spec=as_json["spec"], size=as_json["size"], source=as_json.get("source"),
                    files=files, build=self.program.build, threads=self.program.threads)

    def _spec(self, job):
        return self._server.spec(self._fields(job), self._select(job), self._neuron_ratio(job))

    # Servers and stores

    def close(self):
        self._stack.close()
        self._server, self._store, self._uploaded, self._profiled = None, None, set(), set()

    def _serving(self, job):
        """The server on the job's store, with the text the job needs. Refused before any text is run."""
        recipe, key = self.recipes[job.method], self.base.data.key
        if recipe.text == "draw":
            self._start(f"{key}-{job.cell}-draw{job.draw}-{self._texts_digest(job, [job.cell])}", job)
            self._upload(job, [job.cell])
        elif recipe.without_own_file:
            self._start_without_own_file(job)
        else:
            self._start(self._whole_store(job), job)
            self._upload(job, self._cells(job))
        return self._server

    # A store's name says what text is for it: all of it is general text, and may be selected.

    def _whole_store(self, job):
        return f"{self.base.data.key}-{self._texts_digest(job, self._every_cell(self.recipes[job.method]))}"

    def _texts_digest(self, job, cells):
        return digest([[d["text"] for d in self._documents(job, c)] for c in cells])[:8]

    def _start(self, store, job):
        if self._store != store:
            self.close()
            protos = load_protos(self.program.proto_folder, self.program.other_protos)
            self._server = self._stack.enter_context(Server(
                self.program.secateurd, protos, self.base.data.folder, self.base.folder, self.program.stores / store,
                self.program.threads))
            self._store = store
        self._server.check(self._spec(job))

    def _upload(self, job, cells):
        for cell in cells:
            if cell not in self._uploaded:
                labels = dict(self.corpora.labels(cell), **EVERY_TEXT)
                self._server.upload(json_lines(self._documents(job, cell)), labels)
        self._uploaded.update(cells)
        if self.recipes[job.method].corpora == "all" and not self._profiled.issuperset(cells):
            self._server.profile_all()
            self._profiled.update(self._uploaded)

    def _start_without_own_file(self, job):
        """On a copy of the store of all texts, the cell's own file and profile deleted from it. The copy shares files
        by hard links: the store writes a file once and never changes it."""
        whole = self._whole_store(job)
        store = f"{whole}-without-{job.cell}"
        if not (self.program.stores / store).exists():
            self._start(whole, job)
            self._upload(job, self._every_cell(self.recipes[job.method]))
            self.close()
            partial = self.program.stores / f"{store}.partial"
            shutil.rmtree(partial, ignore_errors=True)
            shutil.copytree(self.program.stores / whole, partial, copy_function=os.link)
            self._start(partial.name, job)
            self._server.delete_corpora_with(self.corpora.labels(job.cell))
            self.close()
            partial.rename(self.program.stores / store)
        self._start(store, job)
