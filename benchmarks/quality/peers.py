"""Rows of the dense base and of the published methods, pruned and judged in this process."""
import copy
import time

import torch

import baselines
from cache import code_digest, digest
from judge import VERSIONS
from protocol import ALIGNMENT, ALL_PEERS


@torch.inference_mode()
def round_to_stored(model, dtype):
    """What saving the parameters in `dtype` and loading them as float32 does."""
    for p in model.parameters():
        p.copy_(p.to(dtype).float())


def prune_copy(model, peer, keep, stats, seed):
    """A pruned copy of the model, its parameters rounded as a bfloat16 folder would hold them."""
    pruned = copy.deepcopy(model)
    if peer.method == "flap-global":
        baselines.prune_globally(pruned, keep, stats)
    else:
        baselines.prune(pruned, peer.method, keep, stats, seed)
    for i, layer in enumerate(pruned.model.layers):
        layer.self_attn.layer_idx = i  # its place in a cache of keys and values: layers may be gone
    round_to_stored(pruned, torch.bfloat16)
    return pruned


class Peers:
    """Makes rows of ALL_PEERS on one loaded base. Statistics of a text are collected once for all methods and sizes."""

    def __init__(self, base, corpora):
        self.base, self.corpora = base, corpora  # base: a loaded base of rows.py
        self._stats = None, None

    def _documents(self, job):
        peer = ALL_PEERS[job.method]
        return [] if peer.method in baselines.WITHOUT_TEXT else self.corpora.draw(job.cell, peer.documents, job.draw)

    def made_digest(self, job):
        """Of everything that decides the pruned model."""
        peer = ALL_PEERS[job.method]
        texts = [d["text"] for d in self._documents(job)]
        return digest(dict(
            method=peer.method, keep=self.base.keep(job.ratio), seed=self._seed(job), tokens=peer.tokens if texts else 0,
            texts=texts, base=self.base.digest, code=code_digest(baselines.code_of(peer.method) + [round_to_stored]),
            versions=VERSIONS))

    def _seed(self, job):
        return job.draw - 1 if job.method == "random" else 0

    def _collected(self, job, peer, gram):
        """Statistics of the job's text, kept until another text is asked for."""
        key = (job.cell, job.draw, peer.documents, peer.tokens)
        if self._stats[0] != key or (gram and self._stats[1][0]["g"] is None):
            self._stats = None, None  # frees the old ones first
            ids = baselines.calibration(self.base.tok, [d["text"] for d in self._documents(job)], peer.tokens)
            self._stats = key, baselines.collect(self.base.model, ids, gram)
        return self._stats[1]

    def make(self, job, gram):
        """The pruned model and what to say about it. `gram`: some job with the same text will want Gram matrices."""
        peer, started = ALL_PEERS[job.method], time.monotonic()
        stats = None if peer.method in baselines.WITHOUT_TEXT else self._collected(job, peer, gram)
        model = prune_copy(self.base.model, peer, self.base.keep(job.ratio), stats, self._seed(job))
        parameters = baselines.parameters(model)
        return model, dict(
            width=None if peer.method == "flap-global" else model.config.intermediate_size, layers=model.config.num_hidden_layers, parameters=parameters,
            removed=round(1 - parameters / self.base.parameters, 5),
            calibration=dict(documents=len(self._documents(job)), tokens=stats[0]["n"]) if stats else None,
            seconds_made=round(time.monotonic() - started, 1))
