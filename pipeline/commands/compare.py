"""`compare`: the scores of all variants side by side, as far as they are computed."""

from collections.abc import Sequence
from typing import Literal

from rich.console import Console

from pipeline.commands.error_intervals import error_intervals
from pipeline.config import Config
from pipeline.graph.graph import Graph, build
from pipeline.metrics import comparison

Format = Literal["table", "markdown", "csv", "json"]


def compare(
    configs: Sequence[Config], output_format: Format, console: Console, *, show_all: bool = False
) -> None:
    """Print the variants' scores; a score that is not computed yet is missing."""
    show(build(configs), configs, output_format, console, show_all=show_all)


def show(
    graph: Graph,
    configs: Sequence[Config],
    output_format: Format,
    console: Console,
    *,
    show_all: bool = False,
) -> None:
    """Print the table, or plain text in another format, with the intervals of the WERs.

    `show_all` is for the table and its Markdown, which show the main scores otherwise.
    """
    rows, splits = scores(graph, configs), test_splits(configs)
    found = error_intervals(graph, tuple(rows), splits, comparison.baseline(rows))
    rows = {variant: {**row, **found.rows[variant]} for variant, row in rows.items()}
    if output_format == "table":
        table = comparison.comparison_table(rows, splits, found.notes, show_all=show_all)
        console.print(table)
        return
    if output_format == "markdown":
        text = comparison.as_markdown(rows, splits, found.notes, show_all=show_all)
    elif output_format == "csv":
        text = comparison.as_csv(rows, splits)
    else:
        text = comparison.as_json(rows, splits)
    console.out(text, highlight=False, end="")


def test_splits(configs: Sequence[Config]) -> tuple[str, ...]:
    """The test splits of all variants, each once."""
    return tuple(dict.fromkeys(name for config in configs for name in config.corpus.splits.test))


def scores(graph: Graph, configs: Sequence[Config]) -> dict[str, dict[str, float]]:
    """Each variant's scores by name, means over its members; the variants in the paper's order."""
    variants = sorted((config.variant for config in configs), key=comparison.place)
    return {
        variant: comparison.mean(
            [
                comparison.scores({name: node.artifact for name, node in member.nodes.items()})
                for member in graph.members_of(variant)
            ]
        )
        for variant in variants
    }
