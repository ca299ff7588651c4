"""The test data: cells of profile/ and eval/, calibration draws, and the text that models are judged on."""
import collections
import dataclasses
import functools
import json
import pathlib

from cache import digest
from evaluate import cut, load_docs, read_docs, spread
from protocol import EVAL_DOCS, EVAL_TOKENS, GENERAL_DOCS


class Corpora:
    """A folder with profile/, eval/ and manifest.json. Calibration reads profile/ alone, judging eval/ alone."""

    def __init__(self, root):
        self.root = pathlib.Path(root)
        manifest = json.loads((self.root / "manifest.json").read_text(encoding="utf8"))
        self._labels = {entry["file"].removesuffix(".jsonl"): {k: entry[k] for k in ("language", "domain", "task")}
                        for entry in manifest}

    def cells(self):
        return sorted(self._labels)

    def labels(self, cell):
        return self._labels[cell]

    def profile_file(self, cell):
        return self.root / "profile" / f"{cell}.jsonl"

    @functools.cache
    def profile_docs(self, cell):
        return read_docs(self.profile_file(cell))

    def draw(self, cell, documents, number):
        """Draw 1: `documents` spread over the profile file; draw 2: as many of the others. None: all of them."""
        rows = self.profile_docs(cell)
        if documents is None:
            return rows
        first = spread(rows, documents)
        if number == 1:
            return first
        taken = {d["id"] for d in first}
        second = spread([d for d in rows if d["id"] not in taken], documents)
        assert len(second) == documents, f"{cell}: {len(rows)} documents are too few for two draws of {documents}"
        return second

    @functools.cache
    def eval_docs(self, cell, count=10**9):
        return load_docs(self.root / "eval" / f"{cell}.jsonl", count)

    def choice_docs(self, cell):
        return [d for d in self.eval_docs(cell) if d.get("choices") and d.get("label") is not None]

    def guessing(self, cell):
        """The share of right answers that guessing comes to."""
        docs = self.choice_docs(cell)
        return sum(1 / len(d["choices"]) for d in docs) / len(docs)

    def commonest(self, cell):
        """The share of right answers that always giving the commonest label comes to."""
        docs = self.choice_docs(cell)
        return collections.Counter(d["label"] for d in docs).most_common(1)[0][1] / len(docs)

    def cells_with_choices(self):
        return [c for c in self.cells() if self.choice_docs(c)]


@dataclasses.dataclass(frozen=True)
class JudgedText:
    """What a cell's models are judged on: its own held-out text and that of other cells, cut to tokens of the base."""
    target: list
    general: list
    general_cells: list  # of each text of `general`

    def digest(self):
        return digest([self.target, self.general])


def _texts(corpora, tok, cell, count):
    return [cut(tok, d["text"], EVAL_TOKENS) for d in corpora.eval_docs(cell, count)]


def judged_text(corpora, tok, base, cell):
    general = [(c, t) for c in base.general_for(cell) for t in _texts(corpora, tok, c, GENERAL_DOCS)]
    return JudgedText(_texts(corpora, tok, cell, EVAL_DOCS), [t for _, t in general], [c for c, _ in general])


def language_text(corpora, tok, cell):
    """The held-out text of every cell in the language of this one, as much of each as of one alone; no general text."""
    language = corpora.labels(cell)["language"]
    cells = [c for c in corpora.cells() if corpora.labels(c)["language"] == language]
    return JudgedText([t for c in cells for t in _texts(corpora, tok, c, EVAL_DOCS)], [], [])
