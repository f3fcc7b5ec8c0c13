"""How much of speech survives its units: resynthesised test speech, recognised and measured."""

from functools import partial
from typing import TYPE_CHECKING, Any

from pipeline.config import Config
from pipeline.graph.stage import Stage, StageContext
from tasks import train_vocoder

if TYPE_CHECKING:
    from pipeline.vocoder.evaluation import Listener, Resynthesis


def _settings(config: Config) -> dict[str, Any]:
    return {
        **config.model_dump(mode="json", include={"resynthesis", "asr_evaluation"}),
        "splits": list(config.corpus.splits.test),
    }


def _run(context: StageContext) -> dict[str, float]:
    from pipeline.corpus.read_outputs import read_split, read_tokens
    from pipeline.features.batching import map_in_batches
    from pipeline.vocoder import evaluation
    from pipeline.vocoder.generator import UnitVocoder

    config, inputs = context.config, context.inputs
    with inputs["train_vocoder"].read_folder("vocoder") as folder:
        vocoder = UnitVocoder.from_pretrained(folder)
    listener = _listener(context)
    everything: list[Resynthesis] = []
    scores: dict[str, float] = {}
    for split in config.corpus.splits.test:
        utterances = evaluation.evenly_spread(
            read_split(inputs["prepare_corpus"], split), config.resynthesis.utterances_per_split
        )
        units = read_tokens(inputs["tokenize_corpus"], split)
        process = partial(evaluation.resynthesize, vocoder, listener, units)
        report = partial(context.progress.update, total=len(utterances), unit="utterances")
        seconds = [utterance.duration for utterance in utterances]
        batch_seconds = config.asr_evaluation.batch_seconds
        results = map_in_batches(process, utterances, seconds, batch_seconds, report)
        everything += results
        for result in results[: config.resynthesis.audio_examples]:
            _keep_audio(context, result, vocoder.sample_rate_hz)
        scores |= {f"{split}.{name}": x for name, x in evaluation.scores(results).items()}
    context.output.write_table("scores.parquet", evaluation.table(everything))
    return scores


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


def _keep_audio(context: StageContext, result: "Resynthesis", sample_rate_hz: int) -> None:
    from pipeline.audio.decode import write_audio

    name = f"audio/{result.utterance.utt_id}.wav"
    with context.output.write(name) as file:
        write_audio(file, result.samples, sample_rate_hz, format="WAV")
    context.tracker.log_audio(result.samples, sample_rate_hz, name)


STAGE = Stage(
    name="evaluate_resynthesis",
    version=1,
    settings=_settings,
    run=_run,
    inputs=lambda _config: ("prepare_corpus", "train_joint", "tokenize_corpus", "train_vocoder"),
    applies=train_vocoder.STAGE.applies,
    cpus=1,
    headline=("resynthesis_wer", "resynthesis_wer_of_recordings"),
)
