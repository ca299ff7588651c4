"""evaluate.py's side of evaluate_peer_test.cc: evaluate_peer.py EVALUATE_PY MODEL_FOLDER FILE TOKENS

Prints what the functions of EVALUATE_PY say of the documents of FILE (JSON Lines), as one JSON object:
bits per byte with its tokens and bytes, and for each document whether its right option is chosen and
the token ids, the first scored one and the nats of every option.
"""

import importlib.util
import json
import math
import sys


class Recorder:
    """A scorer that remembers what it was asked and what it answered."""

    def __init__(self, scorer):
        self.scorer, self.options = scorer, []
        self.ids = scorer.ids

    def endings_nll(self, pairs):
        values = self.scorer.endings_nll(pairs)
        for (ids, start), nats in zip(pairs, values):
            self.options.append({"ids": ids, "start": max(start, 1), "nats": nats})
        return values


def main(source, folder, file, tokens):
    spec = importlib.util.spec_from_file_location("evaluate", source)
    evaluate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(evaluate)
    with open(file, encoding="utf-8") as lines:
        documents = [json.loads(line) for line in lines]
    scorer = evaluate.Scorer.load(folder)
    texts = [evaluate.cut(scorer.tok, document["text"], tokens) for document in documents]
    pairs = [(scorer.ids(text), 1) for text in texts]
    size = sum(len(text.encode()) for text in texts)
    bits = sum(scorer.nll(pairs)) / math.log(2)
    items = []
    for document in documents:
        recorder = Recorder(scorer)
        right = evaluate.right_choices(recorder, [document], tokens)
        assert len(right) == 1, document["id"]
        items.append({"right": right[0], "options": recorder.options})
    tokens_predicted = sum(len(ids) - 1 for ids, _ in pairs)
    print(json.dumps({"tokens": tokens_predicted, "bytes": size, "bpb": bits / size, "items": items}))


if __name__ == "__main__":
    main(*sys.argv[1:4], int(sys.argv[4]))
