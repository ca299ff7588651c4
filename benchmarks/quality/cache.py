"""Digests of what rows are made of, and the file that keeps the rows."""
import ast
import contextlib
import fcntl
import functools
import hashlib
import inspect
import json
import os
import pathlib
import textwrap


def digest(value):
    """Of anything JSON can hold."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=True).encode()).hexdigest()


def file_digest(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def folder_digest(folder):
    """Of the files that decide what a model computes: weights, config, tokenizer."""
    names = sorted(p.name for p in pathlib.Path(folder).iterdir()
                   if p.suffix == ".safetensors" or p.name in ("config.json", "tokenizer.json", "tokenizer_config.json"))
    return digest([(name, file_digest(pathlib.Path(folder) / name)) for name in names])


@functools.cache  # a file that is edited while a run goes on is not what runs
def _meaning(function):
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    return ast.dump(tree)


def code_digest(functions):
    """Of what the functions do: comments, docstrings and layout do not count."""
    return digest([_meaning(f) for f in functions])


class RowFile:
    """Rows by key, one to a line, in the order of models, cells and methods. A row that was put is there after a kill, and
    several runs may put at once."""

    ORDER = ("model", "cell", "kind", "method", "ratio", "draw", "key")

    def __init__(self, path):
        self.path = pathlib.Path(path)
        self._rows = self._read()

    def get(self, key):
        return self._rows.get(key)

    def put(self, key, row):
        with self._alone():
            self._rows = self._read() | {key: dict(row, key=key)}
            lines = [json.dumps(r, ensure_ascii=False) for r in sorted(self._rows.values(), key=self._order)]
            temporary = self.path.with_suffix(f".{os.getpid()}")
            temporary.write_text("\n".join(lines) + "\n", encoding="utf8")
            temporary.replace(self.path)

    def _read(self):
        if not self.path.exists():
            return {}
        rows = map(json.loads, self.path.read_text(encoding="utf8").splitlines())
        return {row["key"]: row for row in rows}

    def _order(self, row):
        return [row[name] for name in self.ORDER]

    @contextlib.contextmanager
    def _alone(self):
        """The lock is the folder's: the file itself is another one after each put."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)
