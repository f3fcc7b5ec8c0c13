"""How much of speech survives its units: test speech, resynthesised, and measured beside recordings.

The variant's own recogniser hears it here; `judge_resynthesis` has one that is the same for all.
"""

from functools import partial
from typing import TYPE_CHECKING, Any

from pipeline.config import Config
from pipeline.corpus.parts import AUDIO, SPEAKER, TEXT, parts_of
from pipeline.graph.judge_inputs import hearing_settings
from pipeline.graph.stage import Input, Stage, StageContext
from tasks import train_vocoder

if TYPE_CHECKING:
    from pipeline.resynthesis.evaluation import Listener


def _settings(config: Config) -> dict[str, Any]:
    settings = config.resynthesis
    return {
        "utterances_per_split": settings.utterances_per_split,
        "audio_examples": settings.audio_examples,
        **hearing_settings(config),
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
    from pipeline.resynthesis import evaluation
    from pipeline.resynthesis.heard import scored, table
    from pipeline.resynthesis.speech_files import speech_file, write_speech
    from pipeline.vocoder.generator import UnitVocoder

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
        utt_id, rate_hz = result.utterance.utt_id, vocoder.sample_rate_hz
        write_speech(context.output, utt_id, result.samples, rate_hz)
        if number < config.resynthesis.audio_examples:
            context.log.file(speech_file(utt_id))
    heard = [each for result in results for each in result.heard]
    context.output.write_table("heard.parquet", table(heard))
    scores = utterance_scores.write(
        context.output, [scored(result.utterance, result.shares) for result in results]
    )
    scores["synthesis_rtf"] = evaluation.real_time_factor(results, vocoder.sample_rate_hz)
    return {f"{split}.{name}": value for name, value in scores.items()}


def _listener(context: StageContext) -> "Listener":
    from pipeline.asr.model import AsrModel
    from pipeline.resynthesis.evaluation import Listener
    from pipeline.tokenizer.unit_tokenizer import UnitTokenizer

    trained = context.inputs["train_joint"]
    with trained.read_folder("tokenizer") as folder:
        tokenizer = UnitTokenizer.from_pretrained(folder)
    with trained.read_folder("asr") as folder:
        asr = AsrModel.from_pretrained(folder)
    return Listener(tokenizer.encode, partial(asr.transcribe, search=context.config.asr_evaluation))


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
