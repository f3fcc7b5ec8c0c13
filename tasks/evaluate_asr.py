"""Word and character error rates of the trained ASR model on a test split.

Greedy CTC and joint CTC/attention beam search are both scored; the comparison shows the latter.
Variants with units read them as `tokenize_corpus` stored them; the continuous variant computes its
features from audio.
"""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from pipeline.audio.utterance import Utterance
from pipeline.config import Config
from pipeline.corpus.parts import AUDIO, TEXT, parts_of
from pipeline.graph.stage import Input, Stage, StageContext

if TYPE_CHECKING:
    import numpy as np

    from pipeline.asr.evaluation import Reader


def _settings(config: Config) -> dict[str, Any]:
    # No text depends on the batch it was decoded in.
    return {
        "asr_evaluation": config.asr_evaluation.model_dump(mode="json", exclude={"batch_seconds"})
    }


def _inputs(config: Config, split: str) -> tuple[Input, ...]:
    trained = Input("train_joint")
    if config.quantizer.has_units:
        rows = Input("prepare_corpus", parts=parts_of(split, TEXT))
        return (rows, trained, Input("tokenize_corpus", split))
    return (Input("prepare_corpus", parts=parts_of(split, AUDIO, TEXT)), trained)


def _run(context: StageContext) -> dict[str, float]:
    from pipeline.asr.evaluation import transcribe_all
    from pipeline.asr.model import AsrModel
    from pipeline.corpus.read_outputs import read_split

    settings = context.config.asr_evaluation
    with context.inputs["train_joint"].read_folder("asr") as folder:
        model = AsrModel.from_pretrained(folder)
    utterances = read_split(context.inputs["prepare_corpus"], context.split)
    report = partial(context.progress.update, total=len(utterances), unit="utterances")
    transcripts = transcribe_all(model, _reader(context), utterances, settings, report)
    context.output.write_table("hypotheses.parquet", transcripts.table())
    return {f"{context.split}.{name}": value for name, value in transcripts.scores().items()}


def _reader(context: StageContext) -> "Reader":
    """What gives the ASR model's inputs for some utterances: units (T) or features (T x D)."""
    from pipeline.audio.decode import read_utterance
    from pipeline.corpus.read_outputs import read_tokens
    from pipeline.tokenizer.feature_mixer import FeatureMixer

    rate_hz = context.config.corpus.sample_rate_hz
    if context.config.quantizer.has_units:
        units = read_tokens(context.inputs[f"tokenize_corpus/{context.split}"], context.split)
        return lambda utterances: [units[utterance.utt_id] for utterance in utterances]

    with context.inputs["train_joint"].read_folder("features") as folder:
        mixer = FeatureMixer.from_pretrained(folder)

    def features(utterances: Sequence[Utterance]) -> "list[np.ndarray]":
        return mixer.encode([read_utterance(each, rate_hz) for each in utterances])

    return features


STAGE = Stage(
    name="evaluate_asr",
    version=2,
    settings=_settings,
    run=_run,
    splits=lambda config: config.corpus.splits.test,
    inputs=_inputs,
    cpus=1,
    headline=("wer", "cer"),
)
