"""`compare`: the scores of all variants side by side, as far as they are computed."""

from collections.abc import Sequence
from typing import Literal

from rich.console import Console

from pipeline.config import Config
from pipeline.graph.graph import Graph, build
from pipeline.metrics import comparison

Format = Literal["table", "markdown", "csv", "json"]

TEXTS = {"markdown": comparison.as_markdown, "csv": comparison.as_csv, "json": comparison.as_json}


def compare(configs: Sequence[Config], output_format: Format, console: Console) -> None:
    """Print the variants' scores; a score that is not computed yet is missing."""
    show(scores(build(configs), configs), configs, output_format, console)


def show(
    rows: comparison.Rows, configs: Sequence[Config], output_format: Format, console: Console
) -> None:
    """Print the table, or plain text in another format."""
    splits = test_splits(configs)
    if output_format == "table":
        console.print(comparison.comparison_table(rows, splits))
    else:
        console.out(TEXTS[output_format](rows, splits), highlight=False, end="")


def test_splits(configs: Sequence[Config]) -> tuple[str, ...]:
    """The test splits of all variants, each once."""
    return tuple(dict.fromkeys(name for config in configs for name in config.corpus.splits.test))


def scores(graph: Graph, configs: Sequence[Config]) -> dict[str, dict[str, float]]:
    """Each variant's scores by name."""
    return {
        config.variant: comparison.scores(
            {name: node.artifact for name, node in graph.of_variant(config.variant).items()}
        )
        for config in configs
    }
