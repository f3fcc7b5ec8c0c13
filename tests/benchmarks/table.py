"""Records as tables: on the screen, and in this folder's README."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

README = Path(__file__).with_name("README.md")
BEGIN, END = "<!-- records begin -->", "<!-- records end -->"

CONTENDERS = ("contender", "median s", "best s", "extra MB", "what it is")
RATIOS = ("ratio", "median time", "best time", "extra memory")


def show(record: dict[str, Any]) -> None:
    """Print a record; plainly where rich is not installed."""
    title = f"{record['benchmark']} on {record['device']} ({record['size']} size)"
    print(f"\n== {title}: {_words(record['setting'])}")
    _print(CONTENDERS, contender_rows(record))
    _print(RATIOS, ratio_rows(record))
    for line in remarks(record):
        print(line)


def contender_rows(record: dict[str, Any]) -> list[tuple[str, ...]]:
    return [
        (
            name,
            _figure(cost["median_seconds"]),
            _figure(cost["best_seconds"]),
            _megabytes(cost["extra_bytes"]),
            cost["what"] + _share(cost["share"]),
        )
        for name, cost in record["contenders"].items()
    ]


def ratio_rows(record: dict[str, Any]) -> list[tuple[str, ...]]:
    return [
        (
            f"{ratio['of']} / {ratio['to']}",
            _figure(ratio["median_seconds"]),
            _figure(ratio["best_seconds"]),
            _figure(ratio.get("extra_bytes")),
        )
        for ratio in record["ratios"]
    ]


def remarks(record: dict[str, Any]) -> list[str]:
    """What was checked, and who was left out."""
    checks = [f"{name}: {_figure(value)}" for name, value in record["checks"].items()]
    return checks + [f"left out: {name} ({why})" for name, why in record["left_out"].items()]


def markdown(records: Sequence[dict[str, Any]]) -> str:
    """One section a record."""
    sections = []
    for record in records:
        machine = record["machine"]
        where = machine["gpu"] or f"{machine['cores']} cores of {machine['cpu']}"
        lines = [
            f"### {record['benchmark']}, {record['device']}",
            "",
            f"{where}, torch {record['versions']['torch']}, commit {record['commit']}.",
            f"Work: {_words(record['setting'])}.",
            "",
            *_pipes(CONTENDERS, contender_rows(record)),
            "",
            *_pipes(RATIOS, ratio_rows(record)),
            *(f"\n{remark}." for remark in remarks(record)),
        ]
        sections.append("\n".join(lines))
    return "\n\n".join(sections)


def with_records(readme: str, folder: Path) -> str:
    """The README's text with the records in `folder` between its two marks."""
    paths = sorted(folder.glob("*.json"))
    tables = markdown([json.loads(path.read_text(encoding="utf-8")) for path in paths])
    before, _, rest = readme.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{tables or 'No records yet.'}\n\n{END}{after}"


def _print(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    if not rows:
        return
    try:
        from rich.console import Console
        from rich.table import Table
    except ModuleNotFoundError:
        widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
        for row in (header, *rows):
            print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)))
        return
    table = Table()
    for name in header:
        is_figure = name in {*CONTENDERS[1:4], *RATIOS[1:]}
        table.add_column(name, justify="right" if is_figure else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    Console().print(table)


def _pipes(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (header, ["---"] * len(header), *rows)]


def _words(setting: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in setting.items())


def _share(share: float) -> str:
    return "" if share == 1 else f"; ran {share:.2%} of the work, seconds are scaled up"


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _megabytes(num_bytes: int | None) -> str:
    return "-" if num_bytes is None else f"{num_bytes / 1e6:,.1f}"
