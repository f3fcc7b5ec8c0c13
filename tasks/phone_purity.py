"""How well units agree with the alignment's labels, frame by frame, on the test splits."""

from typing import TYPE_CHECKING, Any

from pipeline.audio.frame_grid import FrameGrid
from pipeline.audio.utterance import Utterance
from pipeline.config import Config
from pipeline.graph.stage import Stage, StageContext

if TYPE_CHECKING:
    from pipeline.metrics.purity import JointCounts

SILENCE = "sil"


def _settings(config: Config) -> dict[str, Any]:
    return {
        "purity": config.purity.model_dump(mode="json"),
        "test": list(config.corpus.splits.test),
    }


def _run(context: StageContext) -> dict[str, float]:
    scores: dict[str, float] = {}
    for split in context.config.corpus.splits.test:
        counts = _count(context, split)
        if counts is None:
            context.say(f"{split}: no utterance has an alignment, so there is no purity to give")
            continue
        scores |= _report(context, split, counts)
    return scores


def _count(context: StageContext, split: str) -> "JointCounts | None":
    """Frames of `split` by label and unit; None where nothing is aligned."""
    from pipeline.corpus.read_outputs import read_split, read_tokens, tokenizer_grid
    from pipeline.metrics.purity import JointCounts

    trained, purity = context.inputs["train_joint"], context.config.purity
    units = read_tokens(context.inputs["tokenize_corpus"], split)
    counts = JointCounts(trained.read_json("tokenizer/config.json")["num_units"])
    grid = tokenizer_grid(trained, context.config.corpus.sample_rate_hz)
    for utterance in read_split(context.inputs["prepare_corpus"], split):
        if utterance.alignment is None:
            continue
        labels = _labels(utterance, len(units[utterance.utt_id]), grid, purity.silence_labels)
        kept = [
            (label, unit)
            for label, unit in zip(labels, units[utterance.utt_id], strict=True)
            if label != SILENCE or purity.silence == "include"
        ]
        counts.add([label for label, _ in kept], [unit for _, unit in kept])
    return counts if counts.phones else None


def _labels(
    utterance: Utterance, num_frames: int, grid: FrameGrid, silence: tuple[str, ...]
) -> list[str]:
    """One label a frame, without stress, silence under one name."""
    from pipeline.corpus.alignment.frame_labels import frame_labels
    from pipeline.metrics.purity import strip_stress

    labels = frame_labels(utterance.alignment or (), num_frames, grid)
    return [SILENCE if label in silence else strip_stress(label) for label in labels]


def _report(context: StageContext, split: str, counts: "JointCounts") -> dict[str, float]:
    """Scores, the counts as a table, the heat map."""
    import pyarrow as pa

    from pipeline.metrics import plots, purity

    scores = {
        f"{split}.phone_purity": purity.phone_purity(counts),
        f"{split}.cluster_purity": purity.cluster_purity(counts),
        f"{split}.pnmi": purity.pnmi(counts),
    }
    table = pa.table({"label": counts.phones, "frames_of_unit": counts.matrix.tolist()})
    context.output.write_table(f"counts-{split}.parquet", table)
    figure = plots.purity_heat_map(counts.matrix, counts.phones)
    context.tracker.log_figure(figure, f"purity-{split}.png")
    with context.output.write(f"purity-{split}.png") as file:
        figure.savefig(file, format="png")
    named = ", ".join(f"{name.rpartition('.')[2]} {value:.3f}" for name, value in scores.items())
    context.say(f"{split}: {named}")
    return scores


STAGE = Stage(
    name="phone_purity",
    version=1,
    settings=_settings,
    run=_run,
    inputs=lambda _config: ("prepare_corpus", "train_joint", "tokenize_corpus"),
    applies=lambda config: config.quantizer.has_units,
    cpus=1,
)
