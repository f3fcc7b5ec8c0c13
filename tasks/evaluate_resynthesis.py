"""How much of speech survives its units: test speech, resynthesised, and measured beside recordings.

The variant's own recogniser hears it here; `judge_resynthesis` has one that is the same for all.
"""

from functools import partial
from typing import TYPE_CHECKING, Any

from pipeline.config import Config
from pipeline.config.section import settings_of
from pipeline.corpus.parts import AUDIO, SPEAKER, TEXT, parts_of
from pipeline.graph.stage import Input, Stage, StageContext
from tasks import train_vocoder

if TYPE_CHECKING:
    from pipeline.vocoder.evaluation import Listener, Resynthesis


# Of the search: the best text of each utterance is compared, and always from units or features.
NOT_FROM_SPEECH = {"batch_seconds", "nbest", "assignment", "soft_tau", "language_model"}


def _settings(config: Config) -> dict[str, Any]:
    settings = config.resynthesis
    return {
        "utterances_per_split": settings.utterances_per_split,
        "audio_examples": settings.audio_examples,
        "asr_evaluation": settings_of(config.asr_evaluation, NOT_FROM_SPEECH),
    }


def _inputs(_config: Config, split: str) -> tuple[Input, ...]:
    rows = Input("prepare_corpus", parts=parts_of(split, AUDIO, TEXT, SPEAKER))
    return (
        rows,
        Input("train_joint"),
        Input("tokenize_corpus", split),
        Input("train_vocoder"),
    )


def _run(context: StageContext) -> dict[str, float]:
    from pipeline.corpus.read_outputs import read_split, read_tokens
    from pipeline.features.batching import map_in_batches
    from pipeline.metrics import utterance_scores
    from pipeline.vocoder import evaluation
    from pipeline.vocoder.generator import UnitVocoder
    from pipeline.vocoder.judging import scored, table

    config, inputs, split = context.config, context.inputs, context.split
    with inputs["train_vocoder"].read_folder("vocoder") as folder:
        vocoder = UnitVocoder.from_pretrained(folder)
    listener = _listener(context)
    everything = read_split(inputs["prepare_corpus"], split)
    utterances = evaluation.evenly_spread(everything, config.resynthesis.utterances_per_split)
    units = read_tokens(inputs[f"tokenize_corpus/{split}"], split)
    process = partial(evaluation.resynthesize, vocoder, listener, units, everything)
    report = partial(context.progress.update, total=len(utterances), unit="utterances")
    seconds = [utterance.duration for utterance in utterances]
    batch_seconds = config.asr_evaluation.batch_seconds
    results = map_in_batches(process, utterances, seconds, batch_seconds, report)
    for number, result in enumerate(results):
        shown = number < config.resynthesis.audio_examples
        _keep_audio(context, result, vocoder.sample_rate_hz, shown=shown)
    heard = [each for result in results for each in result.heard]
    context.output.write_table("heard.parquet", table(heard))
    scores = utterance_scores.write(
        context.output, [scored(result.utterance, result.shares) for result in results]
    )
    scores["synthesis_rtf"] = evaluation.real_time_factor(results, vocoder.sample_rate_hz)
    return {f"{split}.{name}": value for name, value in scores.items()}


def _listener(context: StageContext) -> "Listener":
    from pipeline.asr.model import AsrModel
    from pipeline.tokenizer.unit_tokenizer import UnitTokenizer
    from pipeline.vocoder.evaluation import Listener

    trained = context.inputs["train_joint"]
    with trained.read_folder("tokenizer") as folder:
        tokenizer = UnitTokenizer.from_pretrained(folder)
    with trained.read_folder("asr") as folder:
        asr = AsrModel.from_pretrained(folder)
    return Listener(tokenizer.encode, partial(asr.transcribe, search=context.config.asr_evaluation))


def _keep_audio(
    context: StageContext, result: "Resynthesis", sample_rate_hz: int, *, shown: bool
) -> None:
    """Store the speech, for listeners and other judges; MLflow has what is `shown`."""
    from pipeline.audio.decode import write_audio

    name = audio_name(result.utterance.utt_id)
    with context.output.write(name) as file:
        write_audio(file, result.samples, sample_rate_hz, format="WAV")
    if shown:
        context.tracker.log_audio(result.samples, sample_rate_hz, name)


def audio_name(utt_id: str) -> str:
    """The file of an utterance's resynthesis."""
    return f"audio/{utt_id}.wav"


STAGE = Stage(
    name="evaluate_resynthesis",
    version=6,
    settings=_settings,
    run=_run,
    splits=lambda config: config.corpus.splits.test,
    inputs=_inputs,
    applies=train_vocoder.STAGE.applies,
    cpus=1,
    headline=("resynthesis_wer_own", "recordings_wer_own"),
)
