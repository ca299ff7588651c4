"""The quality benchmark's own arithmetic: peers in memory against peers on disk, draws, digests, intervals.

Run by pytest in the tests' environment; models are random and small.
"""
import copy
import importlib.util
import json
import os
import pathlib
import sys
import types

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, Gemma3TextConfig, LlamaConfig

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "benchmarks/quality"))
import baselines  # noqa: E402
import cache  # noqa: E402
import intervals  # noqa: E402
import peers  # noqa: E402
import protocol  # noqa: E402
import report  # noqa: E402
import rows  # noqa: E402
from corpora import Corpora, language_text  # noqa: E402
from evaluate import Scorer  # noqa: E402
from ours import Ours  # noqa: E402

SIZES = dict(hidden_size=32, intermediate_size=128, num_attention_heads=4, head_dim=8, vocab_size=200)
CONFIGS = {
    "llama": LlamaConfig(num_hidden_layers=6, num_key_value_heads=2, mlp_bias=False, **SIZES),
    # Two kinds of layers: a layer that goes takes its kind with it.
    "gemma3": Gemma3TextConfig(num_hidden_layers=8, num_key_value_heads=1, sliding_window=8, pad_token_id=0,
                               layer_types=["sliding_attention", "sliding_attention", "full_attention", "sliding_attention"] * 2,
                               **SIZES),
}
TOKENIZER = types.SimpleNamespace(bos_token_id=1)


def random_ids(count, length, seed):
    generator = torch.Generator().manual_seed(seed)
    return [[1] + torch.randint(2, 200, (length + i,), generator=generator).tolist() for i in range(count)]


@pytest.fixture(params=CONFIGS)
def model(request):
    torch.manual_seed(7)
    made = AutoModelForCausalLM.from_config(CONFIGS[request.param]).float().eval()
    for p in made.parameters():  # the sizes of a trained model, so that what is removed matters
        p.data.mul_(3)
    peers.round_to_stored(made, torch.bfloat16)
    return made


@pytest.mark.parametrize("method", baselines.METHODS)
def test_a_peer_in_memory_scores_as_its_folder_does(model, method, tmp_path):
    stats = baselines.collect(model, random_ids(6, 30, 0), method == "obs")
    stats[0]["bi"] *= 0  # shortgpt drops the first layer: all others are numbered anew
    in_memory = peers.prune_copy(model, protocol.Peer(method), 64, stats, 0)
    saved = copy.deepcopy(model)
    baselines.prune(saved, method, 64, stats, 0)
    saved.to(torch.bfloat16).save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()

    pairs = [(ids, 1) for ids in random_ids(5, 20, 1)]
    ours, theirs = (Scorer(m, TOKENIZER).nll(pairs) for m in (in_memory, loaded))
    assert ours == pytest.approx(theirs, rel=1e-6)
    assert ours != pytest.approx(Scorer(model, TOKENIZER).nll(pairs), rel=1e-6)
    endings = [(pairs[0][0] + ids, len(pairs[0][0])) for ids in random_ids(3, 4, 2)]
    ours, theirs = (Scorer(m, TOKENIZER).endings_nll(endings) for m in (in_memory, loaded))
    assert ours == pytest.approx(theirs, rel=1e-5)
    assert baselines.parameters(in_memory) == baselines.parameters(loaded) < baselines.parameters(model)


def test_padding_and_batches_do_not_change_a_score(model):
    pairs = [(ids, 1) for ids in random_ids(7, 5, 3)]
    alone = [Scorer(model, TOKENIZER).nll([pair])[0] for pair in pairs]
    assert Scorer(model, TOKENIZER, batch_tokens=25).nll(pairs) == pytest.approx(alone, rel=1e-5)


@pytest.mark.parametrize("beginning", [0, 12, 40])
def test_endings_of_one_beginning_score_as_each_alone(model, beginning):
    shared = random_ids(1, beginning, 5)[0]
    pairs = [(shared + ids[1:], len(shared)) for ids in random_ids(4, 3, 6)]
    assert Scorer(model, TOKENIZER).endings_nll(pairs) == pytest.approx(Scorer(model, TOKENIZER).nll(pairs), rel=1e-5)


def test_choices_are_compared_where_the_base_is_clearly_better_than_guessing():
    measured = lambda lowest: protocol.DenseChoices(("S", "cell"), 50, 0.7, (lowest, 0.8), guessing=0.5, commonest=0.65)
    assert measured(0.51).kept
    assert not measured(0.5).kept


def write_corpora(root, documents):
    for part in ("profile", "eval"):
        (root / part).mkdir()
        lines = [f'{{"id": "{part}-{i}", "text": "text {i}"}}\n' for i in range(documents)]
        (root / part / "en-medical-qa.jsonl").write_text("".join(lines))
    (root / "manifest.json").write_text(
        '[{"file": "en-medical-qa.jsonl", "language": "en", "domain": "medical", "task": "qa"}]')
    return Corpora(root)


def test_two_draws_share_no_document(tmp_path):
    corpora = write_corpora(tmp_path, protocol.SECOND_DRAW_FROM)
    first, second = ({d["id"] for d in corpora.draw("en-medical-qa", protocol.DRAW_DOCS, n)} for n in (1, 2))
    assert len(first) == len(second) == protocol.DRAW_DOCS
    assert not first & second
    assert all(name.startswith("profile") for name in first | second)


def test_general_text_is_of_eight_cells_and_never_the_cell_itself():
    for base in protocol.BASES.values():
        for cell in base.cells:
            general = base.general_for(cell)
            assert len(set(general)) == 8 and cell not in general


def test_every_claim_compares_methods_that_are_run():
    known = set(protocol.ALL_PEERS) | set(protocol.read_recipes(pathlib.Path(protocol.__file__).parent / "recipes.json"))
    for target in protocol.TARGETS:
        assert known.issuperset({target.ours, *target.against})


def all_jobs():
    recipes = protocol.read_recipes(pathlib.Path(protocol.__file__).parent / "recipes.json")
    return [job for phase in protocol.text_phases(recipes, lambda cell: 85) for job in phase]


def test_the_rows_of_every_claim_are_asked_for_at_each_of_its_sizes_in_every_cell():
    jobs = set(all_jobs())
    for _, target, ratio, _ in report._claims():
        for method in (target.ours, *report._against(target, ratio)):
            for base in protocol.BASES.values():
                for cell in base.cells:
                    assert protocol.Job(base.key, cell, method, ratio) in jobs, (target.about, method, ratio)


@pytest.mark.skipif("SECATEUR_TEST_DATA" not in os.environ, reason="SECATEUR_TEST_DATA is not set")
def test_an_unseen_combination_asks_for_its_language_and_for_what_other_text_carries():
    texts = Corpora(os.environ["SECATEUR_TEST_DATA"])
    recipes = protocol.read_recipes(pathlib.Path(protocol.__file__).parent / "recipes.json")
    for base in protocol.BASES.values():
        maker = Ours(types.SimpleNamespace(data=base), texts, recipes, None)
        for cell in base.cells:
            job = protocol.Job(base.key, cell, "unseen", protocol.MAIN_RATIO)
            others = [texts.labels(c) for c in maker._cells(job)]
            assert texts.labels(cell) not in others
            asked = maker._select(job)
            assert asked["language"] == texts.labels(cell)["language"]
            for key, value in texts.labels(cell).items():
                assert any(labels[key] == value for labels in others) == (key in asked), (cell, key)


@pytest.mark.skipif("SECATEUR_TEST_DATA" not in os.environ, reason="SECATEUR_TEST_DATA is not set")
def test_only_text_of_all_languages_is_thinned_and_never_that_of_a_bases_cells():
    texts = Corpora(os.environ["SECATEUR_TEST_DATA"])
    recipes = protocol.read_recipes(pathlib.Path(protocol.__file__).parent / "recipes.json")
    thinned = set()
    for base in protocol.BASES.values():
        maker = Ours(types.SimpleNamespace(data=base), texts, recipes, None)
        for method in ("per-layer", "per-layer-general", "general-text", "unseen", "vocabulary"):
            job = protocol.Job(base.key, base.cells[0], method, protocol.MAIN_RATIO)
            for cell in maker._cells(job):
                whole, taken = texts.profile_docs(cell), maker._documents(job, cell)
                assert len(taken) >= min(len(whole), protocol.EVERY_TEXT_DOCS)
                if taken != whole:
                    assert len(taken) == protocol.EVERY_TEXT_DOCS and cell not in base.cells
                    thinned.add((base.key, method))
    assert thinned == {("G", "per-layer-general"), ("G", "general-text"), ("G", "unseen")}


def test_no_row_is_asked_for_twice():
    jobs = all_jobs()
    assert len(jobs) == len(set(jobs))


def function_of(folder, name, source):
    """`twice` of a module with this source."""
    (folder / f"{name}.py").write_text(source)
    spec = importlib.util.spec_from_file_location(name, folder / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.twice


def test_a_code_digest_is_of_what_the_code_does_not_of_how_it_is_told(tmp_path):
    plain = function_of(tmp_path, "plain", "def twice(x):\n    return 2 * x\n")
    told = function_of(tmp_path, "told", 'def twice(x):\n    """Doubles."""\n    # By hand.\n    return (2 * x)\n')
    other = function_of(tmp_path, "other", "def twice(x):\n    return 3 * x\n")
    assert cache.code_digest([plain]) == cache.code_digest([told]) != cache.code_digest([other])


def row_of(method):
    return dict(model="S", cell="en-medical-qa", kind="text", method=method, ratio=0.35, draw=1)


def test_rows_of_two_runs_are_in_one_file_in_order(tmp_path):
    one, other = (cache.RowFile(tmp_path / "rows.jsonl") for _ in range(2))
    assert one.get("a") is None
    one.put("a", row_of("obs"))
    other.put("b", row_of("flap"))
    one.put("c", row_of("dense"))
    again = cache.RowFile(tmp_path / "rows.jsonl")
    assert again.get("a") == dict(row_of("obs"), key="a")
    lines = (tmp_path / "rows.jsonl").read_text().splitlines()
    assert [json.loads(line)["method"] for line in lines] == ["dense", "flap", "obs"]
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("again", [False, True])
def test_a_row_of_another_build_counts_unless_it_is_to_be_made_again(tmp_path, again, monkeypatch):
    file = cache.RowFile(tmp_path / "rows.jsonl")
    file.put("key", dict(row_of("uniform"), build="old"))
    found = rows.Rows({}, None, {}, file, types.SimpleNamespace(build="new"), again)
    monkeypatch.setattr(found, "_key", lambda job: "key")
    assert (found.find(protocol.Job("S", "en-medical-qa", "uniform", 0.35)) is None) == again


def losses(seed):
    random = np.random.default_rng(seed)
    dense = random.uniform(50, 100, 24)
    return dense, random.uniform(10, 20, 24)


def test_the_interval_of_a_ratio_holds_the_ratio_and_a_constant_ratio_has_none():
    dense, loss = losses(0)
    noisy = loss * np.random.default_rng(1).uniform(0.4, 0.8, 24)
    value, (low, high) = intervals.ratio_with_interval(dense + noisy, dense + loss, dense)
    assert low < value < high and value == pytest.approx(noisy.sum() / loss.sum())
    value, (low, high) = intervals.ratio_with_interval(dense + 0.5 * loss, dense + loss, dense)
    assert value == pytest.approx(0.5) and high - low == pytest.approx(0, abs=1e-12)


def test_the_mean_over_cells_is_geometric():
    dense, loss = losses(2)
    triples = [(dense + factor * loss, dense + loss, dense) for factor in (0.25, 1.0)]
    assert intervals.geometric_mean(triples)[0] == pytest.approx(0.5)


def test_text_that_cells_have_in_common_makes_no_interval_narrower():
    random = np.random.default_rng(3)
    dense = random.uniform(100, 200, 24)
    triple = dense + random.uniform(5, 60, 24), dense + random.uniform(20, 80, 24), dense
    alone = intervals.ratio_with_interval(*triple)[1]
    width = lambda interval: interval[1] - interval[0]
    assert intervals.geometric_mean([triple] * 4, [("all", range(24))] * 4)[1] == pytest.approx(alone)
    assert width(intervals.geometric_mean([triple] * 4)[1]) < 0.7 * width(alone)


def test_documents_in_common_are_known_by_name_not_by_place():
    random = np.random.default_rng(4)
    triple = [random.uniform(100, 200, 24) + shift for shift in (20, 30, 0)]
    names = [("cell", i) for i in range(24)]
    order = random.permutation(24)
    shuffled = [nats[order] for nats in triple]
    aligned = intervals.geometric_mean([triple, triple], [("S", names)] * 2)
    named = intervals.geometric_mean([triple, shuffled], [("S", names), ("S", [names[i] for i in order])])
    assert named[1] == pytest.approx(aligned[1])
    width = lambda mean: mean[1][1] - mean[1][0]
    assert width(intervals.geometric_mean([triple, shuffled], [("S", names)] * 2)) < 0.9 * width(aligned)


def test_a_claim_is_met_or_not_only_where_all_its_cells_are_run():
    def row(loss):
        return dict(target=dict(nats=[100 + loss] * 3, bytes=[90] * 3), general=dict(nats=[100 + loss] * 3, bytes=[90] * 3))
    rows, verdicts = {}, []
    for base in protocol.BASES.values():
        for cell in base.cells:
            rows[protocol.Job(base.key, cell, "dense")] = row(0)
            rows[protocol.Job(base.key, cell, "obs", protocol.MAIN_RATIO)] = row(10)
            rows[protocol.Job(base.key, cell, "uniform", protocol.MAIN_RATIO)] = row(8)
            line = report.targets(report.Results(rows)).splitlines()[5]  # claim 2 at 35 %
            verdicts.append(line.split("|")[-2].strip())
            assert "| 0.80 (0.80 to 0.80) |" in line
    assert verdicts == ["not all cells run"] * 7 + ["yes"]


def choice_rows(place, right):
    return {protocol.Job(*place, method, 0.0 if method == "dense" else protocol.MAIN_RATIO, kind="choices"): dict(right=answers)
            for method, answers in right.items()}


def test_choices_name_the_best_peer_only_where_all_are_run():
    place, some, most = ("G", "th-general-multiple_choice"), [1, 0] * 50, [1] * 90 + [0] * 10
    right = {"dense": most, "per-layer": some} | {peer: [0] * 100 for peer in protocol.CHOICE_PEERS} | {"flap": most}
    lines = report.choices(report.Results(choice_rows(place, right)), [place]).splitlines()
    assert "above flap" in lines[0]
    ours = next(line for line in lines if line.startswith("| per-layer |"))
    assert ours.split("|")[4].strip() == "56 %" and ours.split("|")[-2].strip() == "no"
    del right["shortgpt"]
    lines = report.choices(report.Results(choice_rows(place, right)), [place]).splitlines()
    assert "not all are run" in lines[0] and all("yes" not in line and "| no |" not in line for line in lines)
    assert not report.choices(report.Results({}), [place])


def test_there_is_no_ratio_to_a_peer_that_loses_nothing():
    dense, loss = losses(3)
    assert np.isnan(intervals.ratio_with_interval(dense + loss, dense, dense)[0])


def test_equal_answers_differ_by_nothing():
    right = [1, 0, 1, 1, 0, 1]
    assert intervals.accuracy_difference(right, right) == (0.0, (0.0, 0.0))


def test_the_trade_off_is_drawn_where_a_cell_has_more_than_its_two_ends():
    def row(bpb_target, bpb_general, weight):
        return dict(bpb_target=bpb_target, bpb_general=bpb_general, spec=dict(general_weight=weight) if weight else {})
    place = protocol.BASES["S"].cells[0]
    rows = {protocol.Job("S", place, "dense"): row(1, 2, 0)}
    weights = dict(zip(protocol.TRADE_OFF, (0, 0.03, 0.1, 0.3, 1)))
    for method in ("per-layer", "per-layer-general"):
        rows[protocol.Job("S", place, method, protocol.MAIN_RATIO)] = row(1.1, 2.5, weights[method])
    assert not report.trade_off(report.Results(rows))
    rows[protocol.Job("S", place, "general-0.3", protocol.MAIN_RATIO)] = row(1.25, 2.25, 0.3)
    lines = report.trade_off(report.Results(rows)).splitlines()[2:]
    assert [line.split("|")[2].strip() for line in lines] == ["0", "0.1", "0.3"]
    assert "1.250 +0.250 | 2.250 +0.250" in lines[-1]


def test_a_vocabulary_is_small_enough_and_costs_little_enough_on_all_text_of_its_language():
    def row(bpb, removed=0.0):
        text = dict(nats=[100 * bpb] * 3, tokens=300)
        return dict(bpb_target=bpb, bpb_general=2, target=text, removed=removed, size=dict(vocabulary_size=64))
    verdicts = {}
    for cell, removed, of_language in zip(protocol.BASES["G"].cells, (0.4, 0.4, 0.39, 0.4), (1.004, 1.006, 1.004, None)):
        rows = {protocol.Job("G", cell, "dense"): row(1), protocol.Job("G", cell, "vocabulary"): row(1.01, removed)}
        if of_language:
            rows |= {protocol.Job("G", cell, "dense", kind="language"): row(1),
                     protocol.Job("G", cell, "vocabulary", kind="language"): row(of_language, removed)}
        head, _, line = (text.split("|") for text in report.vocabulary(report.Results(rows)).splitlines())
        met = [name.strip() for name in head].index("met")
        verdicts[removed, of_language] = line[met].strip()
        assert line[met + 3].strip() == "+1.00 (+1.00 to +1.00)"
    assert verdicts == {(0.4, 1.004): "yes", (0.4, 1.006): "no", (0.39, 1.004): "no", (0.4, None): report.NONE}


@pytest.mark.skipif("SECATEUR_TEST_DATA" not in os.environ, reason="SECATEUR_TEST_DATA is not set")
def test_the_text_of_a_language_is_of_each_of_its_cells_and_of_no_other():
    texts = Corpora(os.environ["SECATEUR_TEST_DATA"])
    short = lambda text, **_: dict(input_ids=[])  # a tokenizer for which no text is too long
    text = language_text(texts, short, "hi-general-qa")
    cells = ("hi-general-qa", "hi-medical-multiple_choice")
    assert text.target == [d["text"] for cell in cells for d in texts.eval_docs(cell, protocol.EVAL_DOCS)]
    assert len(text.target) == 2 * protocol.EVAL_DOCS and not text.general


def test_the_points_of_the_trade_off_are_recipes_of_growing_weight():
    recipes = protocol.read_recipes(pathlib.Path(protocol.__file__).with_name("recipes.json"))
    weights = [recipes[name].spec.get("general_weight", 0.1) for name in protocol.TRADE_OFF]  # left out: the default
    assert weights == sorted(weights)
