"""The comparison: one row for each score and test split, one column for each variant.

Scores have the names that the stages give them (`test.wer`, `training_seconds`), by which those of a
user's own stages are shown; a score's 95 % interval is two more, `test.wer_low` and `test.wer_high`, and `pipeline/metrics/seed_scores.py` says
what several seeds add. The table and its Markdown show the main scores, or all that have a title,
rounded; JSON and CSV have every score, unrounded.
"""

import csv
import io
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from rich.markup import escape
from rich.table import Table

from pipeline.metrics.seed_scores import SEEDS
from pipeline.storage.artifacts import Artifact

MISSING = "–"  # noqa: RUF001 - an en dash, as tables of results have it
# The paper's order; other variants stand behind these, as they are named.
ORDER = (
    "kmeans",
    "finetuned_kmeans",
    "dkm_codebook",
    "dkm_layers",
    "dkm_frozen_codebook",
    "dkm_full",
    "phonological",
    "continuous",
    "continuous_full",
)
BASELINE = ORDER[0]
# The first of these that there is bounds what units can reach.
BEST = ("continuous_full", "continuous")
REDUCTION = "wer_reduction"
GAP_CLOSED = "gap_closed"

Rows = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Comparison:
    """Scores by variant, in the order in which they are shown, on the test splits.

    `notes` say what the figures are relative to, and which are missing and why. `own` are the names
    of the scores of users' own stages.
    """

    rows: Rows
    splits: tuple[str, ...]
    notes: tuple[str, ...] = ()
    own: tuple[str, ...] = ()


@dataclass(frozen=True)
class Score:
    """How a score is shown: its name after the split, title, factor and decimals (None: four digits).

    One that is `main` is shown without being asked for; one that is `optional` is of a stage that not
    everybody runs, and shown only where some variant has it.
    """

    name: str
    title: str
    scale: float = 1.0
    decimals: int | None = 3
    main: bool = False
    optional: bool = False

    @property
    def metric(self) -> str:
        """The title in the characters that MLflow accepts in a metric's name."""
        title, _, unit = self.title.removesuffix(")").partition(" (")
        spelled = unit.replace("%", "percent").replace("/", " per ")
        return f"{title} in {spelled}" if unit else title

    def show(self, value: float | None) -> str:
        if value is None:
            return MISSING
        if self.decimals is None:
            return f"{value:.0f}" if value.is_integer() or abs(value) >= 1000 else f"{value:.4g}"
        return f"{self.scale * value:.{self.decimals}f}"

    def cell(self, row: Mapping[str, float], split: str) -> str:
        """The value in `row` with what is known of it: `17.4 ± 1.2 [14.9, 20.2] (2 of 3 seeds)`.

        That is its standard deviation over seeds, its interval, and how many seeds it is of if not
        all have it.
        """
        name = f"{split}.{self.name}" if split else self.name
        value, sd, low, high, seeds = (
            row.get(name + part) for part in ("", "_sd", "_low", "_high", "_num_seeds")
        )
        shown = self.show(value)
        if sd is not None:
            shown += f" ± {self.show(sd)}"
        if value is not None and low is not None and high is not None:
            shown += f" [{self.show(low)}, {self.show(high)}]"
        if seeds is not None and seeds < row[SEEDS]:
            shown += f" ({seeds:.0f} of {row[SEEDS]:.0f} seeds)"
        return shown


GROUPS = (
    (
        Score("wer", "WER (%)", 100, 1, main=True),
        Score(REDUCTION, "WER reduction (%)", 100, 1, main=True),
        Score(f"{REDUCTION}_p", "p of the reduction", 1, 4, main=True),
        Score(f"{REDUCTION}_p_speakers", "p, speakers swapped", 1, 4),
        Score(f"{REDUCTION}_p_seeds", "p, seeds relabelled", 1, 4),
        Score(GAP_CLOSED, "gap closed (%)", 100, 1, main=True),
        Score("cer", "CER (%)", 100, 1),
    ),
    (
        Score("phone_purity", "phone purity", main=True),
        Score("phone_purity_with_silence", "phone purity with silence"),
        Score("cluster_purity", "cluster purity"),
        Score("pnmi", "PNMI", main=True),
        Score("pnmi_with_silence", "PNMI with silence"),
        Score("units_per_phone", "units per phone", 1, 2),
        Score("abx_within_speaker", "ABX error within speaker (%)", 100, 1),
        Score("abx_across_speakers", "ABX error across speakers (%)", 100, 1),
        Score("abx_within_speaker_any_context", "ABX error within, any context (%)", 100, 1),
        Score("abx_across_speakers_any_context", "ABX error across, any context (%)", 100, 1),
    ),
    (
        Score("codebook_usage", "codebook usage (%)", 100, 1),
        Score("codebook_perplexity", "codebook perplexity", 1, 1),
        Score("bit_rate", "bit rate (bit/s)", 1, 1),
        Score("deduplicated_bit_rate", "de-duplicated bit rate (bit/s)", 1, 1),
        Score("bit_rate_log2k", "bit rate at log2 K a unit (bit/s)", 1, 1),
        Score(
            "deduplicated_bit_rate_log2k", "de-duplicated bit rate at log2 K a unit (bit/s)", 1, 1
        ),
    ),
    (
        Score(
            "lm_bits_per_second", "language model of units (bit/s)", 1, 1, main=True, optional=True
        ),
        Score("lm_perplexity", "perplexity of a unit or subword", 1, 2),
        Score("lm_symbols_per_second", "units or subwords a second", 1, 1),
    ),
    (
        Score("resynthesis_wer", "resynthesis WER (%)", 100, 1),
        Score("copy_synthesis_wer", "WER of copy-synthesis (%)", 100, 1),
        Score("recordings_wer", "WER of the same recordings (%)", 100, 1),
        Score("resynthesis_cer", "resynthesis CER (%)", 100, 1),
        Score("resynthesis_wer_own", "resynthesis WER, own recogniser (%)", 100, 1),
        Score("recordings_wer_own", "WER of the same recordings, own recogniser (%)", 100, 1),
        Score("resynthesis_cer_own", "resynthesis CER, own recogniser (%)", 100, 1),
        Score("mcd_db", "mel-cepstral distortion (dB)", 1, 2),
        Score("copy_synthesis_mcd_db", "distortion of copy-synthesis (dB)", 1, 2),
        Score("other_utterance_mcd_db", "distortion of another utterance (dB)", 1, 2),
        Score("f0_correlation", "F0 correlation", 1, 2),
        Score("copy_synthesis_f0_correlation", "F0 correlation of copy-synthesis", 1, 2),
        Score("f0_rmse_cents", "F0 error (cents, RMS)", 1, 0),
        Score("copy_synthesis_f0_rmse_cents", "F0 error of copy-synthesis (cents, RMS)", 1, 0),
        Score("f0_voicing_error", "voicing error (%)", 100, 1),
        Score("copy_synthesis_f0_voicing_error", "voicing error of copy-synthesis (%)", 100, 1),
        Score("other_utterance_f0_voicing_error", "voicing error of another utterance (%)", 100, 1),
        Score("synthesis_rtf", "real-time factor of the synthesis", 1, 3),
    ),
    (
        Score("dnsmos", "DNSMOS", 1, 2),
        Score("copy_synthesis_dnsmos", "DNSMOS of copy-synthesis", 1, 2),
        Score("recordings_dnsmos", "DNSMOS of the same recordings", 1, 2),
        Score("speaker_similarity", "speaker similarity", 1, 2),
        Score("copy_synthesis_speaker_similarity", "speaker similarity of copy-synthesis", 1, 2),
        Score(
            "other_utterance_speaker_similarity", "speaker similarity of another utterance", 1, 2
        ),
        Score("crepe_f0_correlation", "F0 correlation by CREPE", 1, 2),
        Score("crepe_f0_rmse_cents", "F0 error by CREPE (cents, RMS)", 1, 0),
        Score("crepe_f0_voicing_error", "voicing error by CREPE (%)", 100, 1),
    ),
)
# Of the training, whatever the split.
TRAINING = (
    Score("train.perplexity", "perplexity of p in training", 1, 2),
    Score("train.noisy_share", "noisy choices in training (%)", 100, 1),
    Score("training_seconds", "training (s)", 1, 0),
)


TITLED = {score.name for score in (*TRAINING, *(score for group in GROUPS for score in group))}


def place(variant: str) -> int:
    """Where the variant stands in the comparison; the same for all that the paper does not have."""
    return ORDER.index(variant) if variant in ORDER else len(ORDER)


def baseline(variants: Iterable[str]) -> str:
    """The variant that others are compared with: `kmeans`, or else the first."""
    names = tuple(variants)
    return BASELINE if BASELINE in names else names[0]


def best(variants: Iterable[str]) -> str | None:
    """The variant that the gap is measured to: the best that reads no units, if there is one."""
    names = tuple(variants)
    return next((name for name in BEST if name in names), None)


def scores(outputs: Mapping[str, Artifact]) -> dict[str, float]:
    """All scores of one training, from its complete outputs by stage.

    If two stages use the same name, the later score gets its stage's name as a prefix.
    """
    all_scores: dict[str, float] = {}
    for stage, output in outputs.items():
        if output.is_complete():
            for name, value in output.metrics().items():
                all_scores[f"{stage}.{name}" if name in all_scores else name] = value
    return all_scores


def with_reductions(
    rows: Rows, splits: Sequence[str], against: str | None = None
) -> dict[str, dict[str, float]]:
    """`rows` with what their WERs say of each other; scores that are not finite count as missing.

    - `<split>.wer_reduction` = (w0 - w) / w0, where w0 is the WER of the variant `against`, or else
      of the baseline
    - `<split>.gap_closed` = (w0 - w) / (w0 - w1), where w1 < w0 is the WER of the `best` variant
    """
    known = {
        variant: {name: value for name, value in row.items() if math.isfinite(value)}
        for variant, row in rows.items()
    }
    if not known:
        return known
    base, bound = known[against or baseline(rows)], known.get(best(rows) or "", {})
    for split in splits:
        name = f"{split}.wer"
        for row in known.values():
            found = _relative(row.get(name), base.get(name), bound.get(name))
            row |= {f"{split}.{score}": value for score, value in found.items()}
    return known


def _relative(wer: float | None, base: float | None, bound: float | None) -> dict[str, float]:
    found = {}
    if wer is not None and base:
        found[REDUCTION] = (base - wer) / base
    if wer is not None and base is not None and bound is not None and bound < base:
        found[GAP_CLOSED] = (base - wer) / (base - bound)
    return found


def headline(row: Mapping[str, float], splits: Sequence[str]) -> dict[str, float]:
    """The table's scores of one variant as MLflow metrics, `test/WER in percent`, as shown there."""
    shown = {
        f"{split}/{score.metric}": score.scale * row[f"{split}.{score.name}"]
        for group in GROUPS
        for score in group
        for split in splits
        if f"{split}.{score.name}" in row
    }
    of_training = {s.metric: s.scale * row[s.name] for s in TRAINING if s.name in row}
    return shown | of_training


def captions(rows: Rows, against: str | None = None) -> tuple[str, ...]:
    """What the table's figures are relative to."""
    if not rows:
        return ()
    base, bound = against or baseline(rows), best(rows)
    gap = f"; the gap is that from {base} to {bound}" if bound and bound != base else ""
    return (f"WER reduction and p are relative to {base}{gap}.", *_spread(rows))


def _spread(rows: Rows) -> tuple[str, ...]:
    """What the standard deviations are over; nothing if each variant was trained once."""
    seeds = {variant: int(row.get(SEEDS, 1)) for variant, row in rows.items()}
    numbers = set(seeds.values())
    if numbers == {1}:
        return ()
    each = [f"{number} of {variant}" for variant, number in seeds.items()]
    how_many = f"{numbers.pop()} of each variant" if len(numbers) == 1 else ", ".join(each)
    return (f"Means and standard deviations (±) are over the seeds of the training: {how_many}.",)


def comparison_table(found: Comparison, *, show_all: bool = False) -> Table:
    """Scores by variant for the terminal, in groups; a missing score is a dash."""
    table = Table(caption=escape("\n".join(found.notes)) or None)
    table.add_column("score")
    table.add_column("split")
    for variant in found.rows:
        table.add_column(escape(variant), justify="right", overflow="fold")
    for group in lines(found, show_all=show_all):
        for line in group:
            table.add_row(*map(escape, line))
        table.add_section()
    return table


def as_markdown(found: Comparison, *, show_all: bool = False) -> str:
    """The same table in GitHub's Markdown."""
    head = [("score", "split", *found.rows), ("---", "---", *["---:"] * len(found.rows))]
    body = [line for group in lines(found, show_all=show_all) for line in group]
    table = "\n".join(
        f"| {' | '.join(cell.replace('|', '&#124;') for cell in line)} |" for line in head + body
    )
    return "\n\n".join((table, *found.notes)) + "\n"


def as_json(rows: Rows) -> str:
    """Every score of every variant, unrounded; `{variant: {name: value}}`."""
    return json.dumps(rows, indent=2, ensure_ascii=False) + "\n"


def as_csv(rows: Rows) -> str:
    """Every score, unrounded, one line each; a missing one is empty."""
    names = sorted({name for row in rows.values() for name in row})
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["score", *rows])
    writer.writerows([name, *(row.get(name, "") for row in rows.values())] for name in names)
    return text.getvalue()


def lines(found: Comparison, *, show_all: bool) -> Iterator[list[tuple[str, ...]]]:
    """Groups of lines: title, split, one value for each variant.

    Beside the main scores that every run has, those that no variant has are left out.
    """
    rows, splits = found.rows, found.splits
    for group in GROUPS:
        yield [
            (score.title, split, *(score.cell(row, split) for row in rows.values()))
            for score in group
            for split in splits
            if (score.main and not score.optional)
            or (
                (score.main or show_all)
                and any(f"{split}.{score.name}" in row for row in rows.values())
            )
        ]
    if show_all:
        yield [
            (score.title, "", *(score.cell(row, "") for row in rows.values()))
            for score in TRAINING
            if any(score.name in row for row in rows.values())
        ]
    yield [_own_line(name, rows, splits) for name in found.own]


def _own_line(name: str, rows: Rows, splits: Sequence[str]) -> tuple[str, ...]:
    # A split's name may have dots, and begin as another's.
    split = max((each for each in splits if name.startswith(f"{each}.")), key=len, default="")
    rest = name.removeprefix(f"{split}.") if split else name
    score = Score(rest, rest.replace("_", " "), decimals=None)
    return score.title, split, *(score.cell(row, split) for row in rows.values())
