"""Digests of what rows are made of, and the folder that keeps the rows."""
import ast
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


class Cache:
    """JSON objects by kind and key. A file is whole or absent, so a killed run takes up where it was."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)

    def _path(self, kind, key):
        return self.folder / kind / f"{key}.json"

    def get(self, kind, key):
        path = self._path(kind, key)
        return json.loads(path.read_text(encoding="utf8")) if path.exists() else None

    def put(self, kind, key, value):
        path = self._path(kind, key)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(f".{os.getpid()}")
        temporary.write_text(json.dumps(value, ensure_ascii=False) + "\n", encoding="utf8")
        temporary.replace(path)
