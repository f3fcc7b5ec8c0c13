"""The comparison: one row for each score and test split, one column for each variant.

Scores have the names that the stages give them (`test.wer`, `training_seconds`); a score's 95 %
interval is two more, `test.wer_low` and `test.wer_high`. The table and its Markdown show the main
scores, or all that have a title, rounded; JSON and CSV have every score, unrounded.
"""

import csv
import io
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from rich.markup import escape
from rich.table import Table

from pipeline.storage.artifacts import Artifact

MISSING = "–"  # noqa: RUF001 - an en dash, as tables of results have it
# The paper's order; other variants stand behind these, as they are named.
ORDER = ("kmeans", "dkm_codebook", "dkm_layers", "dkm_full", "continuous")
BASELINE = ORDER[0]
REDUCTION = "wer_reduction"

Rows = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Score:
    """How a score is shown: its name after the split, title, factor and decimals.

    One that is `main` is shown without being asked for.
    """

    name: str
    title: str
    scale: float = 1.0
    decimals: int = 3
    main: bool = False

    @property
    def metric(self) -> str:
        """The title in the characters that MLflow accepts in a metric's name."""
        title, _, unit = self.title.removesuffix(")").partition(" (")
        spelled = unit.replace("%", "percent").replace("/", " per ")
        return f"{title} in {spelled}" if unit else title

    def show(self, value: float | None) -> str:
        return MISSING if value is None else f"{self.scale * value:.{self.decimals}f}"

    def cell(self, row: Mapping[str, float], split: str) -> str:
        """The value in `row`, and its interval if it has one: `17.4 [14.9, 20.2]`."""
        name = f"{split}.{self.name}"
        value, low, high = (row.get(name + edge) for edge in ("", "_low", "_high"))
        if value is None or low is None or high is None:
            return self.show(value)
        return f"{self.show(value)} [{self.show(low)}, {self.show(high)}]"


GROUPS = (
    (
        Score("wer", "WER (%)", 100, 1, main=True),
        Score(REDUCTION, "WER reduction (%)", 100, 1, main=True),
        Score(f"{REDUCTION}_p", "p of the reduction", 1, 4, main=True),
        Score("cer", "CER (%)", 100, 1),
    ),
    (
        Score("phone_purity", "phone purity", main=True),
        Score("phone_purity_with_silence", "phone purity with silence"),
        Score("cluster_purity", "cluster purity"),
        Score("pnmi", "PNMI", main=True),
        Score("pnmi_with_silence", "PNMI with silence"),
        Score("units_per_phone", "units per phone", 1, 2),
    ),
    (
        Score("codebook_usage", "codebook usage (%)", 100, 1),
        Score("codebook_perplexity", "codebook perplexity", 1, 1),
        Score("bit_rate", "bit rate (bit/s)", 1, 1, main=True),
        Score("deduplicated_bit_rate", "de-duplicated bit rate (bit/s)", 1, 1),
        Score("bit_rate_log2k", "bit rate at log2 K a unit (bit/s)", 1, 1),
        Score(
            "deduplicated_bit_rate_log2k", "de-duplicated bit rate at log2 K a unit (bit/s)", 1, 1
        ),
    ),
    (
        Score("resynthesis_wer", "resynthesis WER (%)", 100, 1),
        Score("resynthesis_cer", "resynthesis CER (%)", 100, 1),
        Score("mcd_db", "mel-cepstral distortion (dB)", 1, 2),
        Score("f0_error_cents", "F0 error (cents)", 1, 0),
    ),
)
TRAINING_SECONDS = Score("training_seconds", "training (s)", 1, 0)


def place(variant: str) -> int:
    """Where the variant stands in the comparison; the same for all that the paper does not have."""
    return ORDER.index(variant) if variant in ORDER else len(ORDER)


def scores(outputs: Mapping[str, Artifact]) -> dict[str, float]:
    """All scores of one variant, from its complete outputs by stage.

    If two stages use the same name, the later score gets its stage's name as a prefix.
    """
    all_scores: dict[str, float] = {}
    for stage, output in outputs.items():
        if output.is_complete():
            for name, value in output.metrics().items():
                all_scores[f"{stage}.{name}" if name in all_scores else name] = value
    return all_scores


def mean(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of each score over the members of a variant that have it."""
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: fmean(row[name] for row in rows if name in row) for name in names}


def with_reductions(rows: Rows, splits: Sequence[str]) -> dict[str, dict[str, float]]:
    """`rows` with `<split>.wer_reduction` = (w0 - w) / w0 if both WERs are known.

    w0 is the WER of `kmeans`, or of the first variant if there is no `kmeans`. Scores that are not
    finite count as missing.
    """
    known = {
        variant: {name: value for name, value in row.items() if math.isfinite(value)}
        for variant, row in rows.items()
    }
    for split in splits:
        base = known[baseline(rows)].get(f"{split}.wer") if rows else None
        for row in known.values():
            wer = row.get(f"{split}.wer")
            if base and wer is not None:
                row[f"{split}.{REDUCTION}"] = (base - wer) / base
    return known


def headline(row: Mapping[str, float], splits: Sequence[str]) -> dict[str, float]:
    """The table's scores of one variant as MLflow metrics, `test/WER in percent`, as shown there."""
    shown = {
        f"{split}/{score.metric}": score.scale * row[f"{split}.{score.name}"]
        for group in GROUPS
        for score in group
        for split in splits
        if f"{split}.{score.name}" in row
    }
    if TRAINING_SECONDS.name in row:
        shown[TRAINING_SECONDS.metric] = row[TRAINING_SECONDS.name]
    return shown


def comparison_table(
    rows: Rows, splits: Sequence[str], notes: Sequence[str] = (), *, show_all: bool = False
) -> Table:
    """Scores by variant for the terminal, in groups; a missing score is a dash."""
    table = Table(caption=escape("\n".join(_captions(rows, notes))) or None)
    table.add_column("score")
    table.add_column("split")
    for variant in rows:
        table.add_column(escape(variant), justify="right", overflow="fold")
    for group in _lines(rows, splits, show_all=show_all):
        for line in group:
            table.add_row(*map(escape, line))
        table.add_section()
    return table


def as_markdown(
    rows: Rows, splits: Sequence[str], notes: Sequence[str] = (), *, show_all: bool = False
) -> str:
    """The same table in GitHub's Markdown."""
    lines = [("score", "split", *rows), ("---", "---", *["---:"] * len(rows))]
    lines += [line for group in _lines(rows, splits, show_all=show_all) for line in group]
    table = "\n".join(
        f"| {' | '.join(cell.replace('|', '&#124;') for cell in line)} |" for line in lines
    )
    return "\n\n".join((table, *_captions(rows, notes))) + "\n"


def as_json(rows: Rows, splits: Sequence[str]) -> str:
    """Every score of every variant, unrounded; `{variant: {name: value}}`."""
    return json.dumps(with_reductions(rows, splits), indent=2, ensure_ascii=False) + "\n"


def as_csv(rows: Rows, splits: Sequence[str]) -> str:
    """Every score, unrounded, one line each; a missing one is empty."""
    known = with_reductions(rows, splits)
    names = sorted({name for row in known.values() for name in row})
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["score", *known])
    writer.writerows([name, *(row.get(name, "") for row in known.values())] for name in names)
    return text.getvalue()


def _lines(rows: Rows, splits: Sequence[str], *, show_all: bool) -> Iterator[list[tuple[str, ...]]]:
    """Groups of lines: title, split, one value for each variant."""
    known = list(with_reductions(rows, splits).values())
    for group in GROUPS:
        yield [
            (score.title, split, *(score.cell(row, split) for row in known))
            for score in group
            if score.main or show_all
            for split in splits
        ]
    if show_all:
        seconds = TRAINING_SECONDS
        yield [(seconds.title, "", *(seconds.show(row.get(seconds.name)) for row in known))]


def baseline(variants: Iterable[str]) -> str:
    """The variant that others are compared with: `kmeans`, or else the first."""
    names = tuple(variants)
    return BASELINE if BASELINE in names else names[0]


def _captions(rows: Rows, notes: Sequence[str]) -> tuple[str, ...]:
    return (f"WER reduction is relative to {baseline(rows)}.", *notes) if rows else ()
