"""Draw the README's pictures, each for a light and a dark page.

python docs/make_pictures.py
"""

import itertools
import json
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

DOCS = Path(__file__).resolve().parent
SCORES = DOCS / "results" / "an4.json"
IMAGES = DOCS / "images"

Point = tuple[float, float]
Point3 = tuple[float, float, float]


@dataclass(frozen=True)
class Theme:
    """Colours that read well on one kind of page."""

    name: str
    text: str
    faint: str
    box: str
    blue: str
    orange: str
    green: str


LIGHT = Theme("light", "#1f2328", "#6e7781", "#f6f8fa", "#0969da", "#bc4c00", "#1a7f37")
DARK = Theme("dark", "#e6edf3", "#8d96a0", "#161b22", "#58a6ff", "#f0883e", "#3fb950")

BOX_WIDTH, BOX_HEIGHT = 1.7, 0.62
# Stage: centre of its box, what it leaves, who does the work.
STAGES = {
    "prepare_corpus": ((0.0, 3.0), "utterances, rejects", "task"),
    "extract_features": ((2.0, 3.0), "hidden states", "data"),
    "fit_codebook": ((4.0, 3.0), "k-means codebook", "task"),
    "train_joint": ((6.0, 3.0), "tokenizer, ASR model", "train"),
    "tokenize_corpus": ((8.0, 3.0), "units", "data"),
    "evaluate_asr": ((10.0, 3.9), "WER, CER", "task"),
    "phone_purity": ((10.0, 3.0), "purity, PNMI", "task"),
    "train_vocoder": ((10.0, 2.1), "unit vocoder", "train"),
    "evaluate_resynthesis": ((12.0, 2.1), "resynthesis WER", "task"),
}
ARROWS = (
    ("prepare_corpus", "extract_features"),
    ("extract_features", "fit_codebook"),
    ("fit_codebook", "train_joint"),
    ("train_joint", "tokenize_corpus"),
    ("tokenize_corpus", "evaluate_asr"),
    ("tokenize_corpus", "phone_purity"),
    ("tokenize_corpus", "train_vocoder"),
    ("train_vocoder", "evaluate_resynthesis"),
)
MODEL = (
    ("audio", ""),
    ("SSL model", "WavLM, HuBERT"),
    ("layer weights", "mixed frames"),
    ("codebook", "differentiable k-means"),
    ("ASR model", "reads units"),
    ("loss", "CTC + attention"),
)
MODEL_Y, GRADIENT_Y = 0.55, -0.15


@dataclass(frozen=True)
class Panel:
    """One score of the picture of the result, multiplied by `scale` and rounded."""

    score: str
    title: str
    scale: int
    decimals: int


PANELS = (
    Panel("wer", "WER (%), lower is better", 100, 1),
    Panel("phone_purity", "phone purity, higher is better", 1, 3),
    Panel("deduplicated_bit_rate", "de-duplicated bit/s", 1, 0),
)
SPLIT = "test"


def draw_stages(theme: Theme) -> Figure:
    """The stages and, below, what train_joint trains."""
    figure = Figure(figsize=(12.6, 4.85))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(-1.1, 13.1), ylim=(-0.6, 4.9))
    axes.axis("off")
    _draw_graph(axes, theme)
    _draw_model(axes, theme)
    return figure


def _draw_graph(axes: Axes, theme: Theme) -> None:
    colours = {"task": theme.faint, "data": theme.blue, "train": theme.orange}
    for source, target in ARROWS:
        (x0, y0), (x1, y1) = STAGES[source][0], STAGES[target][0]
        _arrow(axes, (x0 + BOX_WIDTH / 2, y0), (x1 - BOX_WIDTH / 2, y1), theme.faint)
    _arrow(axes, (6.0, 3.0 + BOX_HEIGHT / 2), (10 - BOX_WIDTH / 2, 4.0), theme.faint, "angle,rad=8")
    axes.text(7.5, 4.06, "continuous features", color=theme.faint, size=9, ha="center")
    for name, (centre, result, engine) in STAGES.items():
        _box(axes, centre, (name, result), colours[engine], theme)
    for x0, x1, label in (
        (-0.8, 4.8, "shared by all variants"),
        (5.2, 12.8, "one for each variant"),
    ):
        axes.plot((x0, x1), (4.45, 4.45), color=theme.faint, linewidth=1)
        axes.text((x0 + x1) / 2, 4.55, label, color=theme.text, size=11, ha="center")
    for x, (engine, label) in zip(
        (0.0, 2.0, 4.0),
        (("data", "Ray Data"), ("train", "Ray Train"), ("task", "Ray tasks")),
        strict=True,
    ):
        axes.plot((x - 0.8, x - 0.5), (2.1, 2.1), color=colours[engine], linewidth=3)
        axes.text(x - 0.4, 2.1, label, color=theme.text, size=10, va="center")


def _draw_model(axes: Axes, theme: Theme) -> None:
    axes.text(-0.8, 1.25, "train_joint", color=theme.text, size=11, weight="bold", va="center")
    note = "the ASR loss reaches the codebook, the layer weights and the SSL model"
    axes.text(0.55, 1.25, note, color=theme.text, size=11, va="center")
    centres = [2.4 * number for number in range(len(MODEL))]
    for left, right in itertools.pairwise(centres):
        start, end = (left + BOX_WIDTH / 2, MODEL_Y), (right - BOX_WIDTH / 2, MODEL_Y)
        _arrow(axes, start, end, theme.faint)
    for x, (name, detail) in zip(centres, MODEL, strict=True):
        trained = name not in {"audio", "loss"}
        colour = theme.green if trained else theme.faint
        _box(axes, (x, MODEL_Y), (name, detail), colour, theme)
        if trained:
            _arrow(axes, (x, GRADIENT_Y), (x, MODEL_Y - BOX_HEIGHT / 2), theme.green)
    bottom = MODEL_Y - BOX_HEIGHT / 2
    axes.plot(
        (centres[-1], centres[-1], centres[1]),
        (bottom, GRADIENT_Y, GRADIENT_Y),
        color=theme.green,
        linewidth=1.3,
    )
    axes.text(
        centres[-1] - 1.2, GRADIENT_Y - 0.24, "gradient", color=theme.green, size=10, ha="center"
    )


def _box(axes: Axes, centre: Point, words: tuple[str, str], colour: str, theme: Theme) -> None:
    """A box with a name and, below, a detail."""
    x, y = centre
    corner = (x - BOX_WIDTH / 2, y - BOX_HEIGHT / 2)
    shape = "round,pad=0,rounding_size=0.09"
    axes.add_patch(
        FancyBboxPatch(corner, BOX_WIDTH, BOX_HEIGHT, shape, fc=theme.box, ec=colour, lw=1.6)
    )
    middle = {"ha": "center", "va": "center"}
    rise = 0.11 if words[1] else 0.0
    axes.text(x, y + rise, words[0], color=theme.text, size=8.8, weight="bold", **middle)
    axes.text(x, y - 0.14, words[1], color=theme.faint, size=8.8, **middle)


def _arrow(axes: Axes, start: Point, end: Point, colour: str, bend: str = "arc3") -> None:
    axes.add_patch(
        FancyArrowPatch(
            start,
            end,
            arrowstyle="-|>",
            mutation_scale=11,
            color=colour,
            linewidth=1.3,
            shrinkA=0,
            shrinkB=0,
            connectionstyle=bend,
        )
    )


def draw_result(theme: Theme) -> Figure:
    """WER with its interval, phone purity and bit rate of the variants on AN4."""
    scores = json.loads(SCORES.read_text(encoding="utf-8"))
    figure = Figure(figsize=(12.6, 2.4), layout="constrained")
    for axes, panel in zip(figure.subplots(1, 3), PANELS, strict=True):
        _bars(axes, _values(scores, panel), panel, theme)
    return figure


def _values(scores: dict[str, dict[str, float]], panel: Panel) -> dict[str, Point3]:
    """A variant's score with the ends of its interval, where it has the score."""
    name = f"{SPLIT}.{panel.score}"
    return {
        variant: (row[name], row.get(f"{name}_low", row[name]), row.get(f"{name}_high", row[name]))
        for variant, row in scores.items()
        if name in row
    }


def _bars(axes: Axes, rows: dict[str, Point3], panel: Panel, theme: Theme) -> None:
    """A horizontal bar for each variant, the first on top; a line is a 95 % interval."""
    for number, (value, low, high) in enumerate(rows.values()):
        shown, left, right = (panel.scale * each for each in (value, low, high))
        colour = theme.orange if list(rows)[number] == "dkm_full" else theme.blue
        axes.barh(number, shown, 0.62, color=colour)
        if right > left:
            axes.plot((left, right), (number, number), color=theme.text, linewidth=1)
        text = f"{shown:.{panel.decimals}f}"
        place = {"xytext": (4, 0), "textcoords": "offset points", "va": "center"}
        axes.annotate(text, (right, number), color=theme.text, fontsize=9, **place)
    axes.set_title(panel.title, color=theme.text, size=11)
    axes.set_yticks(range(len(rows)), rows, color=theme.text, size=10)
    axes.set_xticks([])
    axes.invert_yaxis()
    axes.margins(x=0.14)
    axes.tick_params(left=False)
    axes.set_facecolor("none")
    axes.spines[:].set_visible(False)


def save(figure: Figure, name: str, theme: Theme) -> None:
    """Write an SVG whose bytes depend on nothing but the drawing."""
    IMAGES.mkdir(exist_ok=True)
    with mpl.rc_context({"svg.hashsalt": name, "svg.fonttype": "none"}):
        path = IMAGES / f"{name}-{theme.name}.svg"
        figure.savefig(path, transparent=True, metadata={"Date": None})


if __name__ == "__main__":
    for theme in (LIGHT, DARK):
        save(draw_stages(theme), "stages", theme)
        save(draw_result(theme), "result", theme)
