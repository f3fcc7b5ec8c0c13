"""How well units agree with the alignment's labels, frame by frame, on a test split."""

from typing import TYPE_CHECKING, Any

from pipeline.config import Config
from pipeline.corpus.parts import ALIGNMENT, parts_of
from pipeline.graph.stage import Input, Stage, StageContext

if TYPE_CHECKING:
    from pipeline.metrics.purity import JointCounts
    from pipeline.metrics.units_per_phone import UnitsPerPhone


def _settings(config: Config) -> dict[str, Any]:
    return {"purity": config.purity.model_dump(mode="json")}


def _inputs(_config: Config, split: str) -> tuple[Input, ...]:
    rows = Input("prepare_corpus", parts=parts_of(split, ALIGNMENT))
    return (rows, Input("train_joint"), Input("tokenize_corpus", split))


def _run(context: StageContext) -> dict[str, float]:
    from pipeline.metrics import purity

    split = context.split
    counts, units_per_phone = count(context)
    scores = purity.scores(counts, context.config.purity)
    if not scores:
        context.progress.message(f"has no purity for {split}: no utterance has aligned phones")
        return {}
    scores |= units_per_phone.scores()
    _write(context, counts)
    return {f"{split}.{name}": value for name, value in scores.items()}


def count(context: StageContext) -> "tuple[JointCounts, UnitsPerPhone]":
    """Frames of the aligned utterances by label and unit, with silence; units by segment."""
    import numpy as np

    from pipeline.audio.utterance import SILENCE
    from pipeline.corpus.read_outputs import read_aligned_frames
    from pipeline.metrics.purity import JointCounts, one_silence
    from pipeline.metrics.units_per_phone import UnitsPerPhone

    inputs, split = context.inputs, context.split
    trained, tokens = inputs["train_joint"], inputs[f"tokenize_corpus/{split}"]
    counts = JointCounts(trained.read_json("tokenizer/config.json")["num_units"])
    units_per_phone = UnitsPerPhone()
    for frames in read_aligned_frames(inputs["prepare_corpus"], trained, tokens, split):
        labels = one_silence(frames.labels, context.config.purity)
        counts.add_spans(labels, frames.label_N, frames.num_frames_N, frames.units_F)
        is_phone = np.array([label != SILENCE for label in labels])
        speaks_N = frames.in_segment_N & is_phone[frames.label_N]
        units_per_phone.add(speaks_N, frames.num_frames_N, frames.units_F)
    return counts, units_per_phone


def _write(context: StageContext, counts: "JointCounts") -> None:
    """The counts as a table and as a heat map."""
    import pyarrow as pa

    from pipeline.metrics.plots import purity_heat_map

    split = context.split
    table = pa.table({"label": counts.phones, "frames_of_unit": counts.matrix.tolist()})
    context.output.write_table(f"counts-{split}.parquet", table)
    figure = purity_heat_map(counts.matrix, counts.phones)
    context.log.figure(figure, f"purity-{split}.png")


STAGE = Stage(
    name="phone_purity",
    version=4,
    settings=_settings,
    run=_run,
    splits=lambda config: config.corpus.splits.test,
    inputs=_inputs,
    applies=lambda config: config.quantizer.has_units,
    cpus=1,
    headline=("phone_purity", "pnmi"),
)
