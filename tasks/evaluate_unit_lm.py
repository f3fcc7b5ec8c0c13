"""How well the language model of units foresees a test split, in bits a second of speech."""

from typing import Any

from pipeline.config import Config
from pipeline.corpus.parts import AUDIO, parts_of
from pipeline.graph.stage import Input, Stage, StageContext
from tasks import train_unit_lm

# Symbols that are read at once, which changes no score.
BATCH_SYMBOLS = 8192


def _settings(_config: Config) -> dict[str, Any]:
    return {}


def _inputs(_config: Config, split: str) -> tuple[Input, ...]:
    rows = Input("prepare_corpus", parts=parts_of(split, AUDIO))
    return (rows, Input("train_unit_lm"), Input("tokenize_corpus", split))


def _run(context: StageContext) -> dict[str, float]:
    from pipeline.corpus.read_outputs import read_split, read_tokens
    from pipeline.lm.unit_lm import UnitLm
    from pipeline.metrics.likelihood import likelihood_scores
    from pipeline.training.batches import sorted_batches

    split, inputs = context.split, context.inputs
    with inputs["train_unit_lm"].read_folder("unit_lm") as folder:
        lm = UnitLm.from_pretrained(folder)
    units = read_tokens(inputs[f"tokenize_corpus/{split}"], split)
    utterances = read_split(inputs["prepare_corpus"], split)
    symbols = [lm.encode(units[utterance.utt_id]) for utterance in utterances]
    lengths = [len(each) + 1 for each in symbols]
    log_probs: list[float] = []
    for batch in sorted_batches(lengths, BATCH_SYMBOLS):
        log_probs += lm.log_probs([symbols[index] for index in batch.indices])
        context.progress.update(len(log_probs), len(utterances), "utterances")
    seconds = sum(utterance.duration for utterance in utterances)
    scores = likelihood_scores(log_probs, sum(lengths), seconds)
    return {f"{split}.{name}": value for name, value in scores.items()}


STAGE = Stage(
    name="evaluate_unit_lm",
    version=1,
    settings=_settings,
    run=_run,
    splits=lambda config: config.corpus.splits.test,
    inputs=_inputs,
    applies=train_unit_lm.STAGE.applies,
    cpus=1,
    headline=("lm_bits_per_second", "lm_perplexity"),
)
