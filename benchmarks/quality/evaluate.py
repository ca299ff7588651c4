#!/usr/bin/env python3
"""Measures Hugging Face model folders on held-out text: bits per byte and multiple-choice accuracy.

    evaluate.py --cells en-medical-qa,en-math-reasoning --docs 24 MODEL [MODEL ...]

Prints one JSON object a line: model, cell, docs, tokens, bytes, bpb, and where the cell has choices: mc_acc, mc_n.
Bits per byte compares models with different tokenizers; documents are cut to --tokens tokens of the *first* model
named, and every model is scored on exactly those bytes. Needs torch, transformers. Cells are JSON Lines files of
--data, by default the folder "eval" of $SECATEUR_TEST_DATA.
"""
import argparse, json, math, os, pathlib, sys, warnings

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

warnings.filterwarnings("ignore")


def data_folder(given, name):
    """--data as given, else the folder `name` of the test data."""
    if given:
        return pathlib.Path(given)
    root = os.environ.get("SECATEUR_TEST_DATA")
    if not root:
        sys.exit("say --data FOLDER or set SECATEUR_TEST_DATA")
    return pathlib.Path(root) / name


def read_docs(path):
    """Every document of a cell, in file order."""
    with path.open(encoding="utf8") as file:
        return [json.loads(line) for line in file]


def spread(rows, count):
    """`count` of the rows spread evenly over them, in their order; all of them when there are no more."""
    if count >= len(rows):
        return rows
    return [rows[round(i * (len(rows) - 1) / (count - 1))] for i in range(count)] if count > 1 else rows[:1]


def load_docs(path, count):
    """`count` documents spread evenly over the file, in file order."""
    return spread(read_docs(path), count)


def first_token(tok):
    """What every document begins with, in calibration, evaluation and serving: BOS, else EOS, else id 0."""
    return tok.bos_token_id if tok.bos_token_id is not None else (tok.eos_token_id or 0)


def cut(tok, text, tokens):
    """The text without what is past its first `tokens` tokens."""
    enc = tok(text, add_special_tokens=False, return_offsets_mapping=True)
    if len(enc["input_ids"]) <= tokens:
        return text
    return text[: enc["offset_mapping"][tokens - 1][1]]


class Scorer:
    """A model and its tokenizer as a judge of text. Float32, no dropout, no cache."""

    def __init__(self, model, tok, batch_tokens=2048):
        self.model, self.tok, self.batch_tokens = model, tok, batch_tokens
        self.bos = first_token(tok)

    @classmethod
    def load(cls, path):
        return cls(AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval(),
                   AutoTokenizer.from_pretrained(path))

    def ids(self, text):
        return [self.bos] + self.tok(text, add_special_tokens=False)["input_ids"]

    @torch.inference_mode()
    def nll(self, pairs):
        """Negative log-likelihood in nats of ids[start:] for each (ids, start)."""
        out = [0.0] * len(pairs)
        order = sorted(range(len(pairs)), key=lambda i: -len(pairs[i][0]))
        head = self.model.get_output_embeddings()
        softcap = getattr(self.model.config, "final_logit_softcapping", None)
        at = 0
        while at < len(order):
            width = len(pairs[order[at]][0])
            group = order[at : at + max(1, self.batch_tokens // width)]
            at += len(group)
            x = torch.zeros(len(group), width, dtype=torch.long)
            for r, i in enumerate(group):
                x[r, : len(pairs[i][0])] = torch.tensor(pairs[i][0])
            h = self.model.model(input_ids=x, use_cache=False).last_hidden_state
            for r, i in enumerate(group):  # right padding is behind every scored position of a causal model
                ids, start = pairs[i]
                start = max(start, 1)
                lp = head(h[r, start - 1 : len(ids) - 1]).float()
                if softcap:
                    lp = softcap * torch.tanh(lp / softcap)
                tgt = torch.tensor(ids[start:])
                out[i] = float((torch.logsumexp(lp, -1) - lp.gather(1, tgt[:, None])[:, 0]).sum())
        return out

    def text_nll(self, texts):
        """Nats of each text, the first token given."""
        return self.nll([(self.ids(text), 1) for text in texts])


def bits_per_byte(nats, size):
    return nats / math.log(2) / size


def choice_pairs(scorer, doc, tokens):
    """For each choice of the document (ids, where its answer begins, bytes of the answer)."""
    raw = doc["text"].encode()
    prompt, gold = raw[: doc["answer_byte"]].decode(), raw[doc["answer_byte"] :].decode()
    lettered = gold[:3] == f"{chr(65 + doc['label'])}. "
    p = scorer.ids(prompt)
    for k, choice in enumerate(doc["choices"]):
        answer = f"{chr(65 + k)}. {choice}" if lettered else str(choice)
        whole = scorer.ids(prompt + answer)
        common = 0
        while common < min(len(p), len(whole)) and p[common] == whole[common]:
            common += 1
        if len(whole) > tokens * 2:  # keep the end: the answer and what is next to it
            drop = len(whole) - tokens * 2
            whole, common = whole[drop:], max(1, common - drop)
        yield whole, common, len(answer.encode())


def right_choices(scorer, docs, tokens):
    """For each document with choices whether its label has the largest log-likelihood per byte of the answer text."""
    docs = [d for d in docs if d.get("choices") and d.get("label") is not None]
    rows = [list(choice_pairs(scorer, d, tokens)) for d in docs]
    nats = iter(scorer.nll([(ids, start) for row in rows for ids, start, _ in row]))
    right = []
    for doc, row in zip(docs, rows):
        scores = [-next(nats) / size for _, _, size in row]
        right.append(scores.index(max(scores)) == doc["label"])
    return right


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("models", nargs="+")
    ap.add_argument("--data", help="folder of the cells; default: eval of $SECATEUR_TEST_DATA")
    ap.add_argument("--cells", default="")
    ap.add_argument("--docs", type=int, default=24)
    ap.add_argument("--tokens", type=int, default=256)
    ap.add_argument("--threads", type=int, default=2)
    ap.add_argument("--mc", action="store_true", help="also multiple-choice accuracy where a cell has choices")
    a = ap.parse_args()
    torch.set_num_threads(a.threads)
    data = data_folder(a.data, "eval")
    cells = [c for c in a.cells.split(",") if c] or sorted(p.stem for p in data.glob("*.jsonl"))
    first = AutoTokenizer.from_pretrained(a.models[0])
    sets = {}
    for c in cells:
        path = data / f"{c}.jsonl"
        if not path.exists():
            sys.exit(f"no such cell: {path.name} in {data.name}/")
        docs = load_docs(path, a.docs)
        sets[c] = (docs, [cut(first, d["text"], a.tokens) for d in docs])
    for m in a.models:
        s = Scorer.load(m)
        for c, (docs, texts) in sets.items():
            size = sum(len(t.encode()) for t in texts)
            row = dict(model=pathlib.Path(m).name, cell=c, docs=len(docs), tokens=sum(len(s.ids(t)) - 1 for t in texts),
                       bytes=size, bpb=round(bits_per_byte(sum(s.text_nll(texts)), size), 5))
            if a.mc:
                right = right_choices(s, docs, a.tokens)
                if right:
                    row.update(mc_acc=round(sum(right) / len(right), 4), mc_n=len(right))
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
