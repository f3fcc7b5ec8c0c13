"""The comparison of the variants, as a picture and as a table."""

from collections.abc import Mapping
from dataclasses import dataclass

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline.metrics import comparison
from pipeline.metrics.comparison import MISSING, Comparison, Score
from pipeline.report.picture import FAINT, INK, colour_of, marker_of, picture

# What the picture shows, with the direction that is better.
SHOWN = {
    "wer": "lower is better",
    "phone_purity": "higher is better",
    "resynthesis_wer": "lower is better",
}

# What the same judge says of other speech, by score, with the line that shows it.
BOUNDS = {"resynthesis_wer": {"recordings_wer": "--", "copy_synthesis_wer": ":"}}


@dataclass(frozen=True)
class Scores:
    """A picture for each score and test split, and the lines of the table in groups."""

    pictures: list[Markup]
    variants: tuple[str, ...]
    main: list[list[tuple[str, ...]]]
    everything: list[list[tuple[str, ...]]]
    notes: tuple[str, ...]


def scores(found: Comparison) -> Scores:
    return Scores(
        [
            _picture(found, split, score)
            for split in found.splits
            for score in (score for group in comparison.GROUPS for score in group)
            if score.name in SHOWN
            and any(f"{split}.{score.name}" in row for row in found.rows.values())
        ],
        tuple(found.rows),
        _lines(found, show_all=False),
        _lines(found, show_all=True),
        found.notes,
    )


def _lines(found: Comparison, *, show_all: bool) -> list[list[tuple[str, ...]]]:
    return [group for group in comparison.lines(found, show_all=show_all) if group]


def _picture(found: Comparison, split: str, score: Score) -> Markup:
    values = ", ".join(f"{name} {score.cell(row, split)}" for name, row in found.rows.items())
    alt = f"{score.title} on {split}, {SHOWN[score.name]}: {values}."
    return picture(lambda: _draw(found, split, score), alt)


def _draw(found: Comparison, split: str, score: Score) -> Figure:
    """A point for each variant with its interval, or else its deviation over seeds."""
    figure = Figure(figsize=(4.8, 0.9 + 0.36 * len(found.rows)), layout="constrained")
    axes = figure.add_subplot()
    for place, row in enumerate(found.rows.values()):
        _draw_value(axes, place, row, f"{split}.{score.name}", score)
    for name, style in BOUNDS.get(score.name, {}).items():
        if (bound := _bound(found, f"{split}.{name}")) is not None:
            label = name.removesuffix("_wer").replace("_", "-")
            axes.axvline(score.scale * bound, color=FAINT, linestyle=style, label=label)
            axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2)
    axes.set(
        title=f"{score.title}, {split}: {SHOWN[score.name]}",
        ylim=(len(found.rows) - 0.5, -0.75),
    )
    axes.set_yticks(range(len(found.rows)), list(found.rows))
    axes.margins(x=0.12)
    axes.grid(axis="x")
    return figure


def _bound(found: Comparison, name: str) -> float | None:
    """A score of speech that no variant has made, which is the same for all."""
    return next((row[name] for row in found.rows.values() if name in row), None)


def _draw_value(axes: Axes, place: int, row: Mapping[str, float], name: str, score: Score) -> None:
    value = row.get(name)
    if value is None:
        axes.text(0.02, place, MISSING, transform=axes.get_yaxis_transform(), va="center")
        return
    spread = row.get(f"{name}_sd", 0.0)
    low, high = row.get(f"{name}_low", value - spread), row.get(f"{name}_high", value + spread)
    colour, scale = colour_of(place), score.scale
    axes.plot((scale * low, scale * high), (place, place), color=colour, linewidth=2)
    axes.plot(scale * value, place, marker_of(place), color=colour, markersize=7)
    axes.annotate(
        score.show(value), (scale * value, place), (0, 6), textcoords="offset points",
        fontsize=8, color=INK, ha="center",
    )  # fmt: skip
