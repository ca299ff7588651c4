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


def _times(count, seed):
    """How often each of `count` documents is drawn, resample by resample."""
    times = np.zeros((RESAMPLES, count))
    np.add.at(times, (np.arange(RESAMPLES)[:, None], _picks(count, seed)), 1)
    return times


def loss_ratio(ours, theirs, dense, times):
    """Loss of `ours` over that of `theirs` and its resamples; each is nats by document, in one order.

    Loss is nats above `dense`: the bytes of the text cancel. Where `theirs` loses nothing there is no ratio (nan).
    """
    gain, base = np.subtract(ours, dense), np.subtract(theirs, dense)
    ratio = lambda a, b: np.where(b > 0, a / np.where(b > 0, b, 1), np.nan)
    return float(ratio(gain.sum(), base.sum())), ratio(times @ gain, times @ base)


def ratio_with_interval(ours, theirs, dense):
    value, samples = loss_ratio(ours, theirs, dense, _times(len(dense), 0))
    return value, _interval(samples)


def geometric_mean(triples, documents=None):
    """Of the ratios of several cells, given (ours, theirs, dense) of each.

    `documents` says of each cell (group, names of its documents): those of a group are resampled together, so what two
    cells share is drawn alike for both. By default every cell has its own.
    Returns the mean and its interval; nan when a ratio is not above 0.
    """
    triples = list(triples)
    documents = documents or [(i, range(len(dense))) for i, (_, _, dense) in enumerate(triples)]
    all_of = {}
    for group, names in documents:
        all_of.setdefault(group, {}).update(dict.fromkeys(names))
    columns = {group: {name: i for i, name in enumerate(names)} for group, names in all_of.items()}
    times = {group: _times(len(names), seed) for seed, (group, names) in enumerate(columns.items())}
    pairs = [loss_ratio(*triple, times[group][:, [columns[group][name] for name in names]])
             for triple, (group, names) in zip(triples, documents)]
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
