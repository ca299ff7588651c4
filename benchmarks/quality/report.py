"""Tables of a run as Markdown: what RESULTS.md holds."""
import itertools

import numpy as np

import intervals
from evaluate import bits_per_byte
from protocol import (ALL_PEERS, BASES, CHOICE_PEERS, MAIN_RATIO, OTHER_RATIOS, SIZED_PEERS, SIZE_SLACK, TARGETS, TRADE_OFF,
                      VOCABULARIES, VOCABULARY_GROWTH, VOCABULARY_REMOVED, Job)

NONE = "–"


class Results:
    """The rows of a run by job, and the losses they come to."""

    def __init__(self, rows):
        self._rows = rows  # job -> row

    def row(self, place, method, ratio=MAIN_RATIO, draw=1, kind="text"):
        return self._rows.get(Job(*place, method, 0.0 if method == "dense" else ratio, draw, kind))

    def builds(self):
        return {row["build"] for row in self._rows.values() if "build" in row}

    def places(self):
        return [(b.key, c) for b in BASES.values() for c in b.cells if self.row((b.key, c), "dense")]

    def methods(self, kind="text"):
        return list(dict.fromkeys(job.method for job in self._rows if job.kind == kind))

    def nats(self, place, method, ratio=MAIN_RATIO, text="target"):
        """Nats by document, the mean over draws; None without a row."""
        rows = [r for r in (self.row(place, method, ratio, draw) for draw in (1, 2)) if r]
        return np.mean([r[text]["nats"] for r in rows], axis=0) if rows else None

    def loss(self, place, method, ratio=MAIN_RATIO, text="target"):
        """Bits per byte above dense, the mean over draws; None without a row."""
        nats = self.nats(place, method, ratio, text)
        dense = self.row(place, "dense")
        if nats is None or not dense:
            return None
        return bits_per_byte(nats.sum() - sum(dense[text]["nats"]), sum(dense[text]["bytes"]))

    def best(self, place, methods, ratio, text):
        """The method of least loss there, or None if any of them lacks a row."""
        losses = {m: self.loss(place, m, ratio, text) for m in methods}
        return None if not losses or None in losses.values() else min(losses, key=losses.get)

    def triple(self, place, ours, theirs, ratio=MAIN_RATIO, text="target"):
        """Nats of ours, theirs and dense; None if a row is missing."""
        triple = [self.nats(place, ours, ratio, text), self.nats(place, theirs, ratio, text),
                  self.nats(place, "dense", 0.0, text)]
        return None if any(t is None for t in triple) else triple


def table(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines) + "\n"


def _with_interval(value, interval, digits=2):
    return NONE if np.isnan(value) else f"{value:.{digits}f} ({interval[0]:.{digits}f} to {interval[1]:.{digits}f})"


def _percent(ratio):
    return f"{round(100 * ratio)} %"


def _claims():
    """(number, target, size, aim) of every claim at every size it is made for; aim: None for what is only reported."""
    for number, target in enumerate(TARGETS, 1):
        for ratio in (MAIN_RATIO, *(OTHER_RATIOS if target.all_sizes else ())):
            slack = 0 if ratio == MAIN_RATIO else SIZE_SLACK
            yield number, target, ratio, None if target.aim is None else target.aim + slack


def _against(target, ratio):
    """The peers of a claim that are run at that size, ours among them."""
    return [m for m in target.against if ratio == MAIN_RATIO or m not in ALL_PEERS or m in SIZED_PEERS]


def _claim_ratios(results, target, ratio):
    """place -> (nats of ours, theirs, dense), and which method theirs is, where all rows are there."""
    out = {}
    for place in results.places():
        best = results.best(place, _against(target, ratio), ratio, target.text)
        triple = best and results.triple(place, target.ours, best, ratio, target.text)
        if triple:
            out[place] = triple, best
    return out


def _documents(results, places, text):
    """For intervals.geometric_mean(): cells of a base have general text in common, target text is their own."""
    if text != "general":
        return None
    cells = [results.row(place, "dense")["general"]["cells"] for place in places]
    return [(place[0], [(cell, of_place[:i].count(cell)) for i, cell in enumerate(of_place)])
            for place, of_place in zip(places, cells)]


def _verdict(value, aim, cells):
    if cells < sum(len(b.cells) for b in BASES.values()):
        return "not all cells run" if cells else "not run"
    return NONE if aim is None else "yes" if value <= aim else "no"


def _mean(results, found, target, base=None):
    """Geometric mean of _claim_ratios() and its interval; of one base's cells, or all."""
    places = {place: triple for place, (triple, _) in found.items() if base in (None, place[0])}
    if not places:
        return float("nan"), None
    return intervals.geometric_mean(places.values(), _documents(results, places, target.text))


def targets(results):
    """A line for each claim and size."""
    head = ["", "claim", "size", "aim", "geometric mean (95 %)", *(f"{key} alone" for key in BASES), "cells", "met"]
    rows = []
    for number, target, ratio, aim in _claims():
        found = _claim_ratios(results, target, ratio)
        value, interval = _mean(results, found, target)
        about = target.about
        if len(_against(target, ratio)) < len(target.against):
            about = f"the same against {' and '.join(_against(target, ratio))} alone"
        alone = [_with_interval(*_mean(results, found, target, base)) for base in BASES]
        rows.append([number, about, _percent(ratio), NONE if aim is None else f"{aim:.2f}", _with_interval(value, interval), *alone,
                     f"{len(found)} of {sum(len(b.cells) for b in BASES.values())}", _verdict(value, aim, len(found))])
    return table(head, rows)


def ratios_by_cell(results):
    """One column a claim at the main size, one row a cell."""
    claims = [(n, t) for n, t, ratio, _ in _claims() if ratio == MAIN_RATIO]
    found = {n: _claim_ratios(results, t, MAIN_RATIO) for n, t in claims}
    rows = []
    for place in results.places():
        cells = []
        for n, target in claims:
            if place not in found[n]:
                cells.append(NONE)
                continue
            triple, best = found[n][place]
            which = f" {best}" if len(target.against) > 1 else ""
            cells.append(_with_interval(*intervals.ratio_with_interval(*triple)) + which)
        rows.append(["/".join(place), *cells])
    return table(["cell", *(f"claim {n}" for n, _ in claims)], rows)


def _growth(row, dense):
    """What bits per byte grow by, and its interval."""
    nats = row["target"]["nats"], dense["target"]["nats"]
    value, interval = intervals.ratio_with_interval(*nats, np.zeros(len(nats[1])))
    return value - 1, [bound - 1 for bound in interval]


def _growth_cells(row, dense):
    """Bits per byte of dense and of the row, what they grow by in per cent, and what the tokens do."""
    if not (row and dense):
        return [NONE] * 4
    growth, (low, high) = _growth(row, dense)
    tokens = row["target"]["tokens"] / dense["target"]["tokens"] - 1
    return [f"{dense['bpb_target']:.4f}", f"{row['bpb_target']:.4f}",
            f"{100 * growth:+.2f} ({100 * low:+.2f} to {100 * high:+.2f})", f"{100 * tokens:+.2f}"]


def vocabulary(results):
    """Experts whose vocabulary alone was trimmed; "" for none."""
    rows = []
    for place, method in itertools.product(results.places(), VOCABULARIES):
        row, dense = results.row(place, method, 0.0), results.row(place, "dense")
        if row:
            whole, dense_whole = (results.row(place, m, 0.0, kind="language") for m in (method, "dense"))
            met = NONE
            if whole and dense_whole:
                small, good = whole["removed"] >= VOCABULARY_REMOVED, _growth(whole, dense_whole)[0] <= VOCABULARY_GROWTH
                met = "yes" if small and good else "no"
            rows.append(["/".join(place), row["size"]["vocabulary_size"], f"{100 * row['removed']:.1f} %",
                         *_growth_cells(whole, dense_whole), met, *_growth_cells(row, dense),
                         f"{dense['bpb_general']:.3f}", f"{row['bpb_general']:.3f}"])
    return rows and table(["cell", "rows", "removed", "language dense", "language", "growth, % (95 %)", "tokens, %", "met",
                           "cell dense", "cell", "growth, % (95 %)", "tokens, %", "general dense", "general"], rows)


def trade_off(results):
    """Losses by the weight of general text, where a cell has more than the two of the claims; "" for none."""
    rows = []
    for place in results.places():
        made = [(m, results.row(place, m)) for m in TRADE_OFF if results.row(place, m)]
        if len(made) <= 2:
            continue
        for method, row in made:
            rows.append(["/".join(place), f"{row['spec'].get('general_weight', 0):g}",
                         *(_figure(results, place, method, MAIN_RATIO, text) for text in ("target", "general"))])
    return rows and table(["cell", "general weight", "target", "general"], rows)


def over_obs(results):
    """Loss of every method over that of obs at the main size, geometric means over cells."""
    rows = []
    for method in results.methods():
        if method in ("dense", "obs"):
            continue
        places = [p for p in results.places() if results.triple(p, method, "obs")]
        if places:
            means = [intervals.geometric_mean([results.triple(p, method, "obs", text=text) for p in places],
                                              _documents(results, places, text)) for text in ("target", "general")]
            rows.append([method, *(_with_interval(*m) for m in means), len(places)])
    return table(["method", "target text", "general text", "cells"], rows)


def _figure(results, place, method, ratio, text, draw=None):
    """Bits per byte and loss of draw 1, or the loss alone of another draw."""
    row, dense = results.row(place, method, ratio, draw or 1), results.row(place, "dense")
    if not row:
        return NONE
    bpb = row[f"bpb_{text}"]
    loss = f"{bpb - dense[f'bpb_{text}']:+.3f}"
    return loss if draw else f"{bpb:.3f} {loss}"


def _calibration_tokens(row):
    tokens = row["calibration"]["tokens"] if row.get("calibration") else row.get("calibration_tokens")
    return f"{tokens:,}" if tokens else NONE


def cell(results, place):
    dense = results.row(place, "dense")
    rows = [["dense", dense["width"], NONE, "0.0 %", f"{dense['bpb_target']:.3f}", f"{dense['bpb_general']:.3f}", *[NONE] * 5]]
    for method in results.methods():
        main = results.row(place, method)
        if method == "dense" or not main:
            continue
        width = main["width"] or "by layer"
        if main.get("spec", {}).get("shape") == "MASKED":
            width = "by layer, zeros"
        if main["layers"] != dense["layers"]:
            width = f"{main['layers']} layers"
        rows.append([method, width, _calibration_tokens(main), f"{100 * main['removed']:.1f} %", _figure(results, place, method, MAIN_RATIO, "target"),
                     _figure(results, place, method, MAIN_RATIO, "general"), _figure(results, place, method, MAIN_RATIO, "target", 2),
                     *[_figure(results, place, method, ratio, text, 1) for ratio in OTHER_RATIOS for text in ("target", "general")]])
    head = ["method", "width", "tokens", "removed", "target", "general", "second draw"]
    return table(head + [f"{_percent(r)} {t}" for r in OTHER_RATIOS for t in ("target", "general")], rows)


def dense_choices(measured):
    """The dense bases on every cell with choices; `measured`: DenseChoices of each."""
    return table(["cell", "items", "guessing", "commonest", "dense", "kept"],
                 [["/".join(m.place), m.items, f"{m.guessing:.2f}", f"{m.commonest:.2f}", _with_interval(m.accuracy, m.interval),
                   "yes" if m.kept else "no"] for m in measured])


def _right(results, method, places):
    """Answers of all the places, item by item, 1 where right; None where a row is missing."""
    rows = [results.row(place, method, kind="choices") for place in places]
    return [r for row in rows for r in row["right"]] if rows and all(rows) else None


def choices(results, kept):
    """Accuracy pooled over the cells of `kept`, and whether ours are clearly below the best of CHOICE_PEERS; "" for none."""
    right = {m: answers for m in results.methods("choices") if (answers := _right(results, m, kept))}
    peers = {m: np.mean(right[m]) for m in CHOICE_PEERS if m in right}
    best = max(peers, key=peers.get) if len(peers) == len(CHOICE_PEERS) else None
    lines = []
    for method, answers in right.items():
        line = [method, len(answers), _with_interval(*intervals.accuracy(answers), 3), NONE, NONE, NONE]
        if "dense" in right:
            line[3] = _percent(np.mean(answers) / np.mean(right["dense"]))
        if best and method not in ("dense", best):
            value, interval = intervals.accuracy_difference(answers, right[best])
            line[4] = _with_interval(value, interval, 3)
            line[5] = NONE if method in ALL_PEERS else "no" if interval[1] < 0 else "yes"
        lines.append(line)
    above = f"above {best}, the best peer (95 %)" if best else "above the best peer: not all are run"
    return lines and table(["method", "items", "accuracy (95 %)", "of dense", above, "not clearly below"], lines)


def _builds(results):
    """How many builds of the server made our rows, if more than one did."""
    builds = results.builds()
    return f", whose rows of ours are of {len(builds)} builds of the server" if len(builds) > 1 else ""


def document(results, notes, command, unmade, versions, measured):
    """`unmade`: (recipe, why) of what has no row; `measured`: as dense_choices()."""
    parts = [f"""# Quality: results

Written by `{command}` ({versions}).
Every run writes this page again from rows.jsonl{_builds(results)}. README.md says how to read it; what is said by hand
stands in NOTES.md and comes first here.
""", notes, """## Aims

Loss is bits per byte above dense on held-out text. A figure is ours over theirs, below 1 is better; intervals are
95 % of a paired bootstrap over documents. With two calibration draws the peer's loss is the mean of both.
""", targets(results), "\nBy cell, at 35 % of the FFN neurons; where a claim has several peers, the best of that cell is named:\n",
             ratios_by_cell(results), """
## Loss over that of obs

Geometric means over cells at 35 %.
""", over_obs(results), """
## By cell

Bits per byte and loss at 35 %: "tokens" are those of the calibration text, as far as they are known, `removed` is the share
of all parameters, "second draw" the target loss of the second calibration draw, the last four columns are losses at other
sizes. Files with a width by layer have zeros in place of neurons: what is removed in them makes them no smaller.
"""]
    for place in results.places():
        parts += [f"\n### {place[0]}/{place[1]} ({BASES[place[0]].name})\n", cell(results, place)]
    curve = trade_off(results)
    if curve:
        parts += ["""
## General weight

What an expert gives up of its target for general text: bits per byte and loss at 35 %, widths by layer.
""", curve]
    trimmed = vocabulary(results)
    if trimmed:
        parts += ["""
## Vocabulary

Trimmed for the cell's language by every profile text of it, nothing else removed: aim 40 % of the parameters at +0.5 % bits per
byte of the language's held-out text, which is 24 documents of each of its files; the cell's own are a part of them. General
text is of other languages: what no row was kept for is spelt in bytes.
""", trimmed]
    if measured:
        parts += ["""
## Choices

Share of right answers by log-likelihood per byte of the answer, every held-out document with choices; cells are kept
where dense is clearly better than `guessing`. `commonest` is what always giving the commonest answer comes to. Pooled over
the kept cells, differences are paired; the aim is to be not clearly below the best peer.
""", dense_choices(measured), choices(results, [m.place for m in measured if m.kept]) or "No method has rows of all the cells that are kept yet.\n"]
    if unmade:
        parts += ["\n## Without rows\n", table(["method", "why"], unmade)]
    return "\n".join(parts)
