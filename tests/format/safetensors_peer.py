"""The reference implementation's side of safetensors_peer_test.cc.

  write FILE          writes tensors that the test knows
  check FILE          checks what the test wrote
  list FILE OUTPUT    one line a tensor: name, element type, shape, SHA-256 of the bytes
"""

import hashlib
import json
import sys

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file


def write(path):
    save_file(
        {
            "bytes": torch.arange(5, dtype=torch.uint8),
            "matrix": torch.arange(6, dtype=torch.float32).reshape(2, 3),
            "half": torch.tensor([1.0, -2.0], dtype=torch.bfloat16),
            "scalar": torch.tensor(-7, dtype=torch.int64),
            "empty": torch.zeros(0, 4),
        },
        path,
        metadata={"format": "pt", "언어": "한국어"},
    )


def check(path):
    tensors = load_file(path)
    expected = {
        "wide": torch.arange(6, dtype=torch.float64).reshape(3, 2),
        "층.weight": torch.arange(4, dtype=torch.int32),
        "bytes": torch.tensor([1, 2, 3], dtype=torch.uint8),
        "scalar": torch.tensor(True),
        "empty": torch.zeros(2, 0, dtype=torch.bfloat16),
    }
    assert set(tensors) == set(expected), sorted(tensors)
    for name, tensor in expected.items():
        assert tensors[name].dtype == tensor.dtype, name
        assert tensors[name].shape == tensor.shape, name
        assert torch.equal(tensors[name], tensor), name
    with safe_open(path, "pt") as file:
        assert file.metadata() == {"format": "pt", "key": 'a "value"\n'}, file.metadata()


def list_tensors(path, output):
    with open(path, "rb") as file:
        types = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    with safe_open(path, "pt") as file, open(output, "w", encoding="utf-8") as out:
        for name in sorted(file.keys()):
            tensor = file.get_tensor(name).contiguous()
            shape = "x".join(map(str, tensor.shape))
            raw = tensor.flatten().view(torch.uint8).numpy().tobytes()
            digest = hashlib.sha256(raw).hexdigest()
            print(name, types[name]["dtype"], shape, digest, file=out)


if __name__ == "__main__":
    {"write": write, "check": check, "list": list_tensors}[sys.argv[1]](*sys.argv[2:])
