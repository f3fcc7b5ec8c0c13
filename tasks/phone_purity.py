"""How well units agree with the alignment's labels, frame by frame, on the test splits."""

from typing import TYPE_CHECKING, Any

from pipeline.config import Config
from pipeline.graph.stage import Stage, StageContext

if TYPE_CHECKING:
    from pipeline.metrics.purity import JointCounts


def _settings(config: Config) -> dict[str, Any]:
    return {
        "purity": config.purity.model_dump(mode="json"),
        "test": list(config.corpus.splits.test),
    }


def _run(context: StageContext) -> dict[str, float]:
    from pipeline.metrics import purity

    scores: dict[str, float] = {}
    for split in context.config.corpus.splits.test:
        counts = _count(context, split)
        if not counts.phones:
            context.progress.message(f"has no purity for {split}: no utterance has an alignment")
            continue
        _write(context, split, counts)
        scores |= {f"{split}.{name}": x for name, x in purity.scores(counts).items()}
    return scores


def _count(context: StageContext, split: str) -> "JointCounts":
    """Frames of the aligned utterances of `split` by label and unit."""
    from pipeline.corpus.alignment.frame_labels import frame_labels
    from pipeline.corpus.read_outputs import read_split, read_tokens, tokenizer_grid
    from pipeline.metrics.purity import JointCounts, scored_frames

    trained, config = context.inputs["train_joint"], context.config
    units = read_tokens(context.inputs["tokenize_corpus"], split)
    counts = JointCounts(trained.read_json("tokenizer/config.json")["num_units"])
    grid = tokenizer_grid(trained, config.corpus.sample_rate_hz)
    for utterance in read_split(context.inputs["prepare_corpus"], split):
        if utterance.alignment is not None:
            units_T = units[utterance.utt_id]
            labels = frame_labels(utterance.alignment, len(units_T), grid)
            counts.add(*scored_frames(labels, units_T.tolist(), config.purity))
    return counts


def _write(context: StageContext, split: str, counts: "JointCounts") -> None:
    """The counts as a table and as a heat map."""
    import pyarrow as pa

    from pipeline.metrics.plots import purity_heat_map

    table = pa.table({"label": counts.phones, "frames_of_unit": counts.matrix.tolist()})
    context.output.write_table(f"counts-{split}.parquet", table)
    figure = purity_heat_map(counts.matrix, counts.phones)
    context.tracker.log_figure(figure, f"purity-{split}.png")
    with context.output.write(f"purity-{split}.png") as file:
        figure.savefig(file, format="png")


STAGE = Stage(
    name="phone_purity",
    version=1,
    settings=_settings,
    run=_run,
    inputs=lambda _config: ("prepare_corpus", "train_joint", "tokenize_corpus"),
    applies=lambda config: config.quantizer.has_units,
    cpus=1,
    headline=("phone_purity", "pnmi"),
)
