"""What judges that are the same for all variants say of resynthesised speech.

`resynthesis.judge` names a recogniser: the ASR model of another variant, or a Whisper. A recogniser
that each variant trained for itself compares recognisers as much as speech. `resynthesis.measures`
names models that tell quality and speakers.
"""

from functools import partial
from typing import TYPE_CHECKING, Any

from pipeline.config import Config
from pipeline.config.section import settings_of
from pipeline.corpus.parts import AUDIO, SPEAKER, TEXT, parts_of
from pipeline.features.fingerprint import whisper_fingerprint
from pipeline.graph.sources import Source
from pipeline.graph.stage import Input, Stage, StageContext
from tasks.evaluate_resynthesis import NOT_FROM_SPEECH, audio_name

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np

    from pipeline.audio.utterance import Utterance
    from pipeline.metrics.utterance_scores import Share
    from pipeline.storage.artifacts import Artifact
    from pipeline.vocoder.judging import Judge


def judge_settings(config: Config) -> dict[str, Any]:
    """What the judges' scores depend on, beside the recogniser's model."""
    settings = config.resynthesis
    found: dict[str, Any] = {"measures": sorted(settings.measures)}
    if settings.judging_folder is not None:
        found["language"] = settings.language
    elif settings.judging_config is not None:
        search = settings.judging_config.asr_evaluation
        found["asr_evaluation"] = settings_of(search, NOT_FROM_SPEECH)
    return found


def judge_sources(config: Config) -> dict[str, Source]:
    """The Whisper model that judges, if one does."""
    folder = config.resynthesis.judging_folder
    return {} if folder is None else {"judge": Source(config.resynthesis, whisper_fingerprint)}


def judge_inputs(config: Config) -> tuple[Input, ...]:
    """The training of the variant that judges, if one does."""
    judging = config.resynthesis.judging_config
    return () if judging is None else (Input("train_joint", config=judging),)


def _inputs(config: Config, split: str) -> tuple[Input, ...]:
    return (
        Input("prepare_corpus", parts=parts_of(split, AUDIO, TEXT, SPEAKER)),
        Input("evaluate_resynthesis", split),
        *judge_inputs(config),
    )


def requires(config: Config) -> None:
    """The packages of the measures."""
    from pipeline.vocoder.measures import require_packages

    require_packages(config.resynthesis.measures)


def _run(context: StageContext) -> dict[str, float]:
    from pipeline.audio.decode import read_audio, read_utterance
    from pipeline.corpus.read_outputs import read_split
    from pipeline.metrics import utterance_scores
    from pipeline.vocoder.judging import RESYNTHESIS, scored, table
    from pipeline.vocoder.measures import open_measures

    split, spoken = context.split, context.inputs[f"evaluate_resynthesis/{context.split}"]
    settings, rate_hz = context.config.resynthesis, context.config.corpus.sample_rate_hz
    known = {each.utt_id: each for each in read_split(context.inputs["prepare_corpus"], split)}
    utterances = [known[each.utt_id] for each in utterance_scores.read(spoken)]

    def read(utterance: "Utterance") -> "np.ndarray":
        return read_audio(f"{spoken.uri}/{audio_name(utterance.utt_id)}", rate_hz)

    report = partial(context.progress.update, total=len(utterances), unit="utterances")
    shares: dict[str, dict[str, Share]] = {each.utt_id: {} for each in utterances}
    heard = []
    if settings.has_judge:
        judge = open_judge(context)
        heard = judge.hear(utterances, RESYNTHESIS, read, report)
        shares |= {each.utterance.utt_id: judge.errors(each) for each in heard}
    measure = open_measures(settings.measures)
    for utterance in utterances if settings.measures else ():
        recording = read_utterance(utterance, rate_hz)
        shares[utterance.utt_id] |= measure(recording, read(utterance))
    context.output.write_table("heard.parquet", table(heard))
    rows = [scored(each, shares[each.utt_id]) for each in utterances]
    scores = utterance_scores.write(context.output, rows)
    return {f"{split}.{name}": value for name, value in scores.items()}


def open_judge(context: StageContext) -> "Judge":
    """The judge that the config names, ready to hear speech."""
    from pipeline.vocoder.judging import Judge

    settings = context.config.resynthesis
    if settings.judging_config is not None:
        trained = context.inputs["train_joint"]
        return Judge(_trained_recogniser(settings.judging_config, trained))
    from pipeline.asr.whisper_recogniser import WhisperRecogniser

    whisper = WhisperRecogniser(settings.judging_folder or "", settings.language)
    return Judge(whisper.transcribe, whisper.normalize)


def _trained_recogniser(
    config: Config, trained: "Artifact"
) -> "Callable[[Sequence[np.ndarray]], list[str]]":
    """Speech to text by what a variant has trained, units or none."""
    from pipeline.asr.model import AsrModel
    from pipeline.tokenizer.feature_mixer import FeatureMixer
    from pipeline.tokenizer.unit_tokenizer import UnitTokenizer

    front_end: type[UnitTokenizer | FeatureMixer] = FeatureMixer
    saved_in = "features"
    if config.quantizer.has_units:
        front_end, saved_in = UnitTokenizer, "tokenizer"
    with trained.read_folder(saved_in) as folder:
        encode = front_end.from_pretrained(folder).encode
    with trained.read_folder("asr") as folder:
        asr = AsrModel.from_pretrained(folder)
    return lambda waveforms: asr.transcribe(encode(waveforms), config.asr_evaluation)


STAGE = Stage(
    name="judge_resynthesis",
    version=1,
    settings=judge_settings,
    sources=judge_sources,
    run=_run,
    splits=lambda config: config.corpus.splits.test,
    inputs=_inputs,
    requires=requires,
    applies=lambda config: config.speaks and config.resynthesis.is_judged,
    cpus=1,
    headline=("resynthesis_wer", "dnsmos", "speaker_similarity"),
)
