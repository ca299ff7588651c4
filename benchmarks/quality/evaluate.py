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


def load_docs(path, count):
    """`count` documents spread evenly over the file, in file order."""
    rows = [json.loads(line) for line in path.open(encoding="utf8")]
    if count >= len(rows):
        return rows
    return [rows[round(i * (len(rows) - 1) / (count - 1))] for i in range(count)] if count > 1 else rows[:1]


def cut(tok, text, tokens):
    enc = tok(text, add_special_tokens=False, return_offsets_mapping=True)
    if len(enc["input_ids"]) <= tokens:
        return text
    return text[: enc["offset_mapping"][tokens - 1][1]]


class Scorer:
    def __init__(self, path, batch_tokens=2048):
        self.path = str(path)
        self.tok = AutoTokenizer.from_pretrained(path)
        self.model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
        self.batch_tokens = batch_tokens
        bos = self.tok.bos_token_id
        self.bos = bos if bos is not None else (self.tok.eos_token_id or 0)

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


def multiple_choice(scorer, docs, tokens):
    """Accuracy by log-likelihood per byte of the answer text."""
    pairs, index = [], []
    for n, d in enumerate(docs):
        if not d.get("choices") or d.get("label") is None:
            continue
        raw = d["text"].encode()
        prompt, gold = raw[: d["answer_byte"]].decode(), raw[d["answer_byte"] :].decode()
        lettered = gold[:3] == f"{chr(65 + d['label'])}. "
        for k, choice in enumerate(d["choices"]):
            answer = f"{chr(65 + k)}. {choice}" if lettered else str(choice)
            p = scorer.ids(prompt)
            whole = scorer.ids(prompt + answer)
            common = 0
            while common < min(len(p), len(whole)) and p[common] == whole[common]:
                common += 1
            if len(whole) > tokens * 2:  # keep the end: the answer and what is next to it
                drop = len(whole) - tokens * 2
                whole, common = whole[drop:], max(1, common - drop)
            pairs.append((whole, common))
            index.append((n, k, len(answer.encode())))
    if not pairs:
        return None, 0
    best = {}
    for (n, k, size), v in zip(index, scorer.nll(pairs)):
        score = -v / size
        if n not in best or score > best[n][0]:
            best[n] = (score, k)
    right = sum(best[n][1] == docs[n]["label"] for n in best)
    return right / len(best), len(best)


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
        s = Scorer(m)
        for c, (docs, texts) in sets.items():
            pairs = [(s.ids(t), 1) for t in texts]
            nats, size = sum(s.nll(pairs)), sum(len(t.encode()) for t in texts)
            row = dict(model=pathlib.Path(m).name, cell=c, docs=len(docs), tokens=sum(len(p[0]) - 1 for p in pairs),
                       bytes=size, bpb=round(nats / math.log(2) / size, 5))
            if a.mc:
                acc, n = multiple_choice(s, docs, a.tokens)
                if n:
                    row.update(mc_acc=round(acc, 4), mc_n=n)
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
