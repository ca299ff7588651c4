"""What one run compares: models, cells, methods, sizes, and what we aim at. Data only; see README.md."""
import dataclasses
import json
import pathlib


@dataclasses.dataclass(frozen=True)
class Base:
    """A base model, the cells its experts are made for, and the cells that count as general text.

    A cell's general text is that of the first eight cells of `general` that are not the cell itself. `languages` are those
    it reads; empty: any.
    """
    key: str
    name: str
    folder: str  # below models/ of the cache
    variable: str  # of env.sh
    cells: tuple
    general: tuple
    languages: tuple = ()

    def reads(self, language):
        return not self.languages or language in self.languages

    def general_for(self, cell):
        return [c for c in self.general if c != cell][:8]


BASES = {
    "S": Base("S", "SmolLM2-135M", "smollm2-135m-instruct", "SECATEUR_SMOLLM2",
              ("en-medical-qa", "en-math-reasoning", "en-legal-summarization", "en-finance-qa"),
              # Every other English cell.
              ("en-ecommerce-sentiment", "en-education-qa", "en-finance-qa", "en-general-qa", "en-general-summarization",
               "en-legal-summarization", "en-math-reasoning", "en-medical-qa", "en-medical-summarization"),
              ("en",)),
    "G": Base("G", "Gemma 3 270M", "gemma-3-270m", "SECATEUR_GEMMA3",
              ("zh-medical-multiple_choice", "fr-math-reasoning", "de-general-qa", "hi-general-qa"),
              # Eight languages, six domains, five tasks; none of its own cells.
              ("ar-education-multiple_choice", "de-medical-qa", "en-general-summarization", "es-general-qa",
               "fr-legal-qa", "ja-general-nli", "ru-math-reasoning", "zh-finance-qa")),
}

# What the data says not to profile in one language and judge in another. Of EXAMS ar-education is judged, so the other
# languages are in no text of ours, and neither they nor MMLU's translations are among the choices.
EXAMS_ELSEWHERE = tuple(f"{language}-education-multiple_choice" for language in ("de", "es", "fr", "pt", "tr", "vi"))
MMLU = ("ar-medical-multiple_choice", "hi-medical-multiple_choice", "ja-finance-multiple_choice", "ja-legal-multiple_choice",
        "ja-medical-multiple_choice")
CHOICE_TASKS = ("multiple_choice", "sentiment", "nli")

ALIGNMENT = 32
EVAL_DOCS, EVAL_TOKENS, GENERAL_DOCS = 24, 256, 3
MAIN_RATIO, OTHER_RATIOS = 0.35, (0.25, 0.45)
DRAW_DOCS, DRAW_TOKENS = 36, 256
# Of a file at most, where every text is that of all languages (some seventy files, two million tokens); a base's own cells
# are whole.
EVERY_TEXT_DOCS = 24
SECOND_DRAW_FROM = 80  # documents of a profile file that allow a second draw


@dataclasses.dataclass(frozen=True)
class Peer:
    """A published method as baselines.py makes it, and the text it is calibrated on.

    `documents` of a draw, `tokens` of each at most; None means every document of the cell's profile file.
    """
    method: str
    documents: int | None = DRAW_DOCS
    tokens: int = DRAW_TOKENS


PEERS = {name: Peer(name) for name in ("obs", "flap", "flap-global", "wanda-sp", "magnitude", "shortgpt", "random")}
# On all the text that our recipes have.
PEERS_ON_FILE = {f"{name}-file": Peer(name, None, 512) for name in ("obs", "flap", "wanda-sp")}
ALL_PEERS = PEERS | PEERS_ON_FILE
SIZED_PEERS = ("flap", "obs")
# flap-global loses more than flap in every cell, so it is run at 35 % on one draw and no further.
FURTHER_PEERS = tuple(n for n in PEERS if n != "flap-global")
# Of which magnitude and random are left out of choices: they lose some thirty and eighteen times what obs does.
CHOICE_PEERS = tuple(n for n in FURTHER_PEERS if n not in ("magnitude", "random"))


@dataclasses.dataclass(frozen=True)
class Recipe:
    """One way in which our server makes an expert: a line of recipes.json."""
    name: str
    about: str
    spec: dict  # ExpertSpec without select and budget, as proto3 JSON
    # "cell": its language, domain and task; "language": its language alone; "all": every uploaded text
    select: str = "cell"
    # "cell": its own file is enough; "language": every file of its language; "all": every file of profile/ in a language
    # that the base reads is uploaded and profiled
    corpora: str = "cell"
    text: str = "file"  # "file": whole files; "draw": the very tokens that the peers get
    without_own_file: bool = False
    # "all": 25, 35, 45 % of the neurons; "main": 35 % alone; "none": no neurons, for models whose embedding is most of them
    sizes: str = "all"
    choices: bool = False  # judged on choices, too
    quick: bool = False  # made in a quick run, too
    cells: tuple = ()  # "S/en-medical-qa"; empty: all

    def covers(self, base, cell):
        return not self.cells or f"{base}/{cell}" in self.cells


def read_recipes(path):
    return {name: Recipe(name=name, **fields)
            for name, fields in json.loads(pathlib.Path(path).read_text(encoding="utf8")).items()}


VOCABULARIES = ("vocabulary", "vocabulary-40")  # the recipes that the table of vocabularies is about
VOCABULARY_REMOVED, VOCABULARY_GROWTH = 0.4, 0.005  # aims: of all parameters at least, of the language's bits per byte at most
TRADE_OFF = ("per-layer", "general-0.03", "per-layer-general", "general-0.3", "general-1")  # by growing general weight


@dataclasses.dataclass(frozen=True)
class Job:
    """One row to make: a method at a size on a cell, judged on text, or on choices."""
    base: str
    cell: str
    method: str  # "dense", a name of ALL_PEERS, or one of recipes.json
    ratio: float = 0.0  # of the FFN neurons
    draw: int = 1
    kind: str = "text"  # or "choices", or "language": held-out text of every cell of the language

    @property
    def place(self):
        return f"{self.base}/{self.cell}"


def draws(documents):
    """The calibration draws that a profile file of so many documents allows."""
    return (1, 2) if documents >= SECOND_DRAW_FROM else (1,)


def text_phases(recipes, documents, quick=False):
    """Lists of jobs, in the order in which they are made. `documents(cell)` counts a profile file."""
    pairs = [(b.key, cell) for b in BASES.values() for cell in b.cells]
    if quick:
        pairs = [("S", "en-legal-summarization"), ("G", "fr-math-reasoning")]  # those that take least time
        return [[Job(b, c, "dense") for b, c in pairs],
                [Job(b, c, p, MAIN_RATIO) for b, c in pairs for p in SIZED_PEERS],
                [Job(b, c, r.name, MAIN_RATIO) for b, c in pairs for r in recipes.values() if r.quick]]
    # One server serves one base and store, and what it measured of a cell's text serves all sizes, so these follow each other.
    ours = lambda names, ratios: [Job(b.key, cell, n, ratio) for b in BASES.values() for cell in b.cells for n in names
                                  if recipes[n].covers(b.key, cell) for ratio in ratios[recipes[n].sizes]]
    sizes = {"all": (MAIN_RATIO, *OTHER_RATIOS), "main": (MAIN_RATIO,), "none": ()}
    drawn = [r.name for r in recipes.values() if r.text == "draw"]
    unseen = [r.name for r in recipes.values() if r.without_own_file]
    others = [n for n in recipes if n not in (*drawn, *unseen)]
    unsized = [r.name for r in recipes.values() if r.sizes == "none"]
    second = lambda names: [Job(b, c, n, MAIN_RATIO, 2) for b, c in pairs if 2 in draws(documents(c)) for n in names]
    return [
        [Job(b, c, "dense") for b, c in pairs],
        [Job(b, c, p, MAIN_RATIO) for b, c in pairs for p in PEERS],
        [Job("G", cell, "dense", kind="language") for cell in BASES["G"].cells],
        [Job("G", cell, n, kind=kind) for n in unsized for cell in BASES["G"].cells if recipes[n].covers("G", cell)
         for kind in ("text", "language")],
        ours(others, sizes), ours(drawn, sizes), ours(unseen, sizes),
        [Job(b, c, p, ratio) for b, c in pairs for ratio in OTHER_RATIOS for p in SIZED_PEERS],
        second(FURTHER_PEERS), second(drawn),
        [Job(b, c, p, MAIN_RATIO) for b, c in pairs for p in PEERS_ON_FILE],
    ]


def choice_candidates(corpora):
    """(base, cell) pairs whose dense accuracy is measured."""
    cells = [c for c in corpora.cells_with_choices() if c not in (*EXAMS_ELSEWHERE, *MMLU)]
    return [(b.key, c) for b in BASES.values() for c in cells
            if b.reads(corpora.labels(c)["language"]) and corpora.labels(c)["task"] in CHOICE_TASKS]


@dataclasses.dataclass(frozen=True)
class DenseChoices:
    """What the dense base comes to on a cell with choices, and what comes without reading them."""
    place: tuple  # (base, cell)
    items: int
    accuracy: float
    interval: tuple  # 95 %
    guessing: float
    commonest: float  # always giving the commonest answer

    @property
    def kept(self):
        """Whether methods are compared there: the base is clearly better than guessing."""
        return self.interval[0] > self.guessing


def choice_jobs(pairs, recipes):
    names = [*CHOICE_PEERS, *(r.name for r in recipes.values() if r.choices)]
    return [Job(b, c, n, MAIN_RATIO, kind="choices") for b, c in pairs for n in names]


@dataclasses.dataclass(frozen=True)
class Target:
    """A claim: the loss of `ours` over that of the best of `against`, cell by cell, at most `aim` in the geometric mean.

    Without an aim it is only reported.
    """
    about: str
    ours: str
    against: tuple
    aim: float | None = None
    text: str = "target"  # or "general"
    all_sizes: bool = False  # at 25 and 45 %, too, then within SIZE_SLACK


SIZE_SLACK = 0.1
TARGETS = (
    Target("per-layer widths against the best of FLAP, Wanda-sp, magnitude, ShortGPT", "sequential",
           ("flap", "flap-global", "wanda-sp", "magnitude", "shortgpt"), 0.35, all_sizes=True),
    Target("uniform width against obs", "uniform", ("obs",), 0.85, all_sizes=True),
    Target("per-layer widths against obs", "sequential", ("obs",), 0.70, all_sizes=True),
    Target("unseen combination against general text, one width, both without the cell's own file", "unseen", ("general-text",), 0.90),
    Target("default general weight against none, target text", "per-layer-general", ("per-layer",), 1.05, all_sizes=True),
    Target("default general weight against none, general text", "per-layer-general", ("per-layer",), 0.70, "general",
           all_sizes=True),
    Target("as 1, all on the whole profile file", "sequential", ("flap-file", "wanda-sp-file", "magnitude")),
    Target("as 2, both on the whole profile file", "uniform", ("obs-file",)),
    Target("as 2, both on the peers' draws", "uniform-draw", ("obs",)),
    Target("as 3, both on the whole profile file", "sequential", ("obs-file",)),
    Target("as 1, with least squares on the base", "per-layer", ("flap", "flap-global", "wanda-sp", "magnitude", "shortgpt")),
    Target("as 3, with least squares on the base", "per-layer", ("obs",)),
)
