"""Word and character error rates of the trained ASR model on each test split.

Greedy CTC and joint CTC/attention beam search are both scored; the comparison shows the latter.
Variants with units read them as `tokenize_corpus` stored them; the continuous variant computes its
features from audio.
"""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from pipeline.audio.utterance import Utterance
from pipeline.config import Config
from pipeline.graph.stage import Stage, StageContext

if TYPE_CHECKING:
    import numpy as np

    from pipeline.asr.evaluation import Reader


def _settings(config: Config) -> dict[str, Any]:
    return {
        "asr_evaluation": config.asr_evaluation.model_dump(mode="json"),
        "splits": list(config.corpus.splits.test),
    }


def _inputs(config: Config) -> tuple[str, ...]:
    units = ("tokenize_corpus",) if config.quantizer.has_units else ()
    return ("prepare_corpus", "train_joint", *units)


def _run(context: StageContext) -> dict[str, float]:
    import pyarrow as pa

    from pipeline.asr.evaluation import transcribe_all
    from pipeline.asr.model import AsrModel
    from pipeline.corpus.read_outputs import read_split

    settings = context.config.asr_evaluation
    with context.inputs["train_joint"].read_folder("asr") as folder:
        model = AsrModel.from_pretrained(folder)
    read = _reader(context)
    tables: list[pa.Table] = []
    scores: dict[str, float] = {}
    for split in context.config.corpus.splits.test:
        utterances = read_split(context.inputs["prepare_corpus"], split)
        report = partial(context.progress.update, total=len(utterances), unit="utterances")
        transcripts = transcribe_all(model, read, utterances, settings, report)
        tables.append(transcripts.table())
        scores |= {f"{split}.{name}": value for name, value in transcripts.scores().items()}
    context.output.write_table("hypotheses.parquet", pa.concat_tables(tables))
    return scores


def _reader(context: StageContext) -> "Reader":
    """What gives the ASR model's inputs for some utterances: units (T) or features (T x D)."""
    from pipeline.audio.decode import read_utterance
    from pipeline.corpus.read_outputs import read_tokens
    from pipeline.tokenizer.feature_mixer import FeatureMixer

    corpus = context.config.corpus
    if "tokenize_corpus" in context.inputs:
        units: dict[str, np.ndarray] = {}
        for split in corpus.splits.test:
            units |= read_tokens(context.inputs["tokenize_corpus"], split)
        return lambda utterances: [units[utterance.utt_id] for utterance in utterances]

    with context.inputs["train_joint"].read_folder("features") as folder:
        mixer = FeatureMixer.from_pretrained(folder)

    def features(utterances: Sequence[Utterance]) -> "list[np.ndarray]":
        return mixer.encode([read_utterance(each, corpus.sample_rate_hz) for each in utterances])

    return features


STAGE = Stage(
    name="evaluate_asr",
    version=1,
    settings=_settings,
    run=_run,
    inputs=_inputs,
    cpus=1,
    headline=("wer", "cer"),
)
