"""Paired bootstrap over documents: what a ratio of losses, or a difference of accuracies, could have been.

All resampling is seeded, so the same rows give the same intervals.
"""
import numpy as np

RESAMPLES = 4000


def _picks(count, seed):
    return np.random.default_rng(seed).integers(0, count, size=(RESAMPLES, count))


def _interval(samples):
    samples = samples[np.isfinite(samples)]
    return tuple(float(x) for x in np.quantile(samples, (0.025, 0.975))) if len(samples) else (float("nan"),) * 2


def loss_ratio(ours, theirs, dense, seed=0):
    """Loss of `ours` over that of `theirs` and its resamples; each is nats by document, in one order.

    Loss is nats above `dense`: the bytes of the text cancel. Where `theirs` loses nothing there is no ratio (nan).
    """
    gain, base = np.subtract(ours, dense), np.subtract(theirs, dense)
    picks = _picks(len(gain), seed)
    ratio = lambda a, b: np.where(b > 0, a / np.where(b > 0, b, 1), np.nan)
    return float(ratio(gain.sum(), base.sum())), ratio(gain[picks].sum(1), base[picks].sum(1))


def ratio_with_interval(ours, theirs, dense):
    value, samples = loss_ratio(ours, theirs, dense)
    return value, _interval(samples)


def geometric_mean(triples, seeds=None):
    """Of the ratios of several cells, given (ours, theirs, dense) of each; documents are resampled cell by cell, those of
    cells with one seed alike.

    Returns the mean and its interval; nan when a ratio is not above 0.
    """
    triples = list(triples)
    seeds = range(len(triples)) if seeds is None else seeds
    pairs = [loss_ratio(*triple, seed=seed) for seed, triple in zip(seeds, triples)]
    with np.errstate(invalid="ignore", divide="ignore"):
        value = float(np.exp(np.mean([np.log(v) for v, _ in pairs])))
        samples = np.exp(np.mean([np.log(s) for _, s in pairs], axis=0))
    return value, _interval(samples)


def accuracy(right):
    """Share of right answers and its interval."""
    right = np.asarray(right, float)
    return float(right.mean()), _interval(right[_picks(len(right), 0)].mean(1))


def accuracy_difference(ours, theirs):
    """Mean of paired differences of right answers and its interval."""
    return accuracy(np.subtract(np.asarray(ours, float), np.asarray(theirs, float)))
