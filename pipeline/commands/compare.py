"""`compare`: the scores of all variants side by side, as far as they are computed."""

from collections.abc import Sequence
from typing import Literal

from rich.console import Console

from pipeline.commands.error_intervals import error_intervals
from pipeline.commands.results import read_results, test_splits
from pipeline.config import Config, ConfigError
from pipeline.graph.graph import Graph, build
from pipeline.metrics import comparison

Format = Literal["table", "markdown", "csv", "json"]


def compare(
    configs: Sequence[Config],
    output_format: Format,
    console: Console,
    *,
    against: str | None = None,
    show_all: bool = False,
) -> None:
    """Print the variants' scores; a score that is not computed yet is missing.

    Raises:
        ConfigError: no config is of the variant `against`.
    """
    variants = [config.variant for config in configs]
    if against is not None and against not in variants:
        raise ConfigError(
            f"no config is of the variant '{against}' to compare with; there are: "
            f"{', '.join(variants)}"
        )
    show(compared(build(configs), configs, against), output_format, console, show_all=show_all)


def show(
    found: comparison.Comparison, output_format: Format, console: Console, *, show_all: bool = False
) -> None:
    """Print the table, or plain text in another format.

    `show_all` is for the table and its Markdown, which show the main scores otherwise.
    """
    if output_format == "table":
        console.print(comparison.comparison_table(found, show_all=show_all))
        return
    if output_format == "markdown":
        text = comparison.as_markdown(found, show_all=show_all)
    elif output_format == "csv":
        text = comparison.as_csv(found.rows)
    else:
        text = comparison.as_json(found.rows)
    console.out(text, highlight=False, end="")


def compared(
    graph: Graph, configs: Sequence[Config], against: str | None = None
) -> comparison.Comparison:
    """The scores of all variants that are computed, with the intervals of the WERs.

    `against` is the variant that others are compared with: without it, the baseline.
    """
    results, splits = read_results(graph, configs), test_splits(configs)
    base = against or comparison.baseline(results.rows)
    found = error_intervals(results.errors, base, comparison.best(results.rows))
    rows = {
        variant: {**row, **found.rows.get(variant, {})} for variant, row in results.rows.items()
    }
    rows = comparison.with_reductions(rows, splits, base)
    said = (*found.notes, *_judge_notes(configs), *results.notes)
    notes = (*comparison.captions(rows, base), *said)
    return comparison.Comparison(rows, splits, notes, tuple(sorted(results.own)))


def _judge_notes(configs: Sequence[Config]) -> list[str]:
    """Whose resynthesis is judged by whom, if not all variants have one judge."""
    judges = {config.variant: config.resynthesis.judge_name for config in configs if config.speaks}
    if len(set(judges.values())) < 2:
        return []
    named = ", ".join(f"{judge} for {variant}" for variant, judge in judges.items())
    return [f"Resynthesis is judged by different recognisers, which do not compare: {named}."]
