"""Stock Transformers' side of expert_logits_test.cc.

  transformers_peer.py ID,ID,... FOLDER OUTPUT [FOLDER OUTPUT ...]

Loads each FOLDER as any user would and fails on a warning and on a weight that is missing, unexpected or of another
shape. Writes the float32 logits of the ids to OUTPUT, and prints the parameter count.
"""
import logging
import pathlib
import sys
import warnings

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


class Collector(logging.Handler):
    def __init__(self):
        super().__init__(level=logging.WARNING)
        self.messages = []

    def emit(self, record):
        self.messages.append(record.getMessage())


def load(folder):
    """Model and tokenizer as any user gets them, and not a word of complaint."""
    collector = Collector()
    logging.getLogger("transformers").addHandler(collector)
    with warnings.catch_warnings(record=True) as raised:
        warnings.simplefilter("always")
        model, info = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        with torch.inference_mode():
            model.eval()(torch.tensor([[0]]))
    messages = collector.messages + [f"{w.category.__name__}: {w.message}" for w in raised]
    if messages:
        sys.exit(f"{folder}: Transformers warned: " + " | ".join(messages))
    wrong = {key: value for key, value in info.items() if value}
    if wrong:
        sys.exit(f"{folder}: Transformers' loading report is not empty: {wrong}")
    return model, tokenizer


def check(ids, folder, output):
    model, _ = load(folder)
    with torch.inference_mode():
        logits = model(torch.tensor([ids])).logits[0]
    pathlib.Path(output).write_bytes(logits.float().contiguous().numpy().tobytes())
    print(sum(p.numel() for p in model.parameters()))


def main(ids, *paths):
    for folder, output in zip(paths[::2], paths[1::2]):
        check([int(i) for i in ids.split(",")], folder, output)


if __name__ == "__main__":
    main(*sys.argv[1:])
