"""Judges a model in memory: nats by document on target and general text, or choices got right."""
import torch
import transformers

from cache import code_digest, digest
from evaluate import Scorer, bits_per_byte, choice_pairs, first_token, right_choices
from protocol import EVAL_TOKENS

VERSIONS = {"torch": torch.__version__, "transformers": transformers.__version__}
_TEXT_CODE = (first_token, Scorer.ids, Scorer.nll, Scorer.text_nll)
_CHOICES_CODE = _TEXT_CODE + (Scorer.endings_nll, Scorer._nats, choice_pairs, right_choices)


def judge_text(scorer, text):
    def judged(texts):
        nats, sizes = scorer.text_nll(texts), [len(t.encode()) for t in texts]
        tokens = sum(len(scorer.ids(t)) - 1 for t in texts)
        return dict(nats=[round(n, 4) for n in nats], bytes=sizes, tokens=tokens), bits_per_byte(sum(nats), sum(sizes))
    target, bpb_target = judged(text.target)
    if not text.general:
        return dict(bpb_target=round(bpb_target, 5), target=target)
    general, bpb_general = judged(text.general)
    return dict(bpb_target=round(bpb_target, 5), bpb_general=round(bpb_general, 5), target=target,
                general=dict(cells=text.general_cells, **general))


def judge_choices(scorer, docs):
    right = right_choices(scorer, docs, EVAL_TOKENS)
    return dict(accuracy=round(sum(right) / len(right), 4), right=[int(r) for r in right])


def text_judgement_digest(text):
    """Of what judge_text() looks at and does."""
    return digest(["text", text.digest(), code_digest(_TEXT_CODE), VERSIONS])


def choices_judgement_digest(docs):
    keys = ("text", "answer_byte", "choices", "label")
    return digest(["choices", [[d[k] for k in keys] for d in docs], EVAL_TOKENS, code_digest(_CHOICES_CODE), VERSIONS])
