"""Word and character error rates of the trained ASR model on a test split.

Greedy CTC and joint CTC/attention beam search are both scored; the comparison shows the latter.
Variants with units read them as `tokenize_corpus` stored them; with soft assignment they compute
mixtures of units from audio, as the continuous variants do their features. With `token_asr` the model
is that of `train_token_asr`, which reads subwords of the stored units.
"""

from functools import partial
from typing import TYPE_CHECKING, Any

from pipeline.config import Config
from pipeline.config.section import settings_of
from pipeline.corpus.parts import AUDIO, TEXT, parts_of
from pipeline.graph.sources import Source
from pipeline.graph.stage import Input, Stage, StageContext
from pipeline.graph.token_inputs import token_inputs
from pipeline.lm.fused import fingerprint, load
from pipeline.lm.kenlm_words import require_kenlm

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy as np
    import torch

    from pipeline.asr.evaluation import Reader
    from pipeline.asr.model import AsrModel
    from pipeline.audio.utterance import Utterance
    from pipeline.storage.artifacts import Artifact
    from pipeline.tokenizer.unit_tokenizer import UnitTokenizer


def _settings(config: Config) -> dict[str, Any]:
    # No text depends on the batch it was decoded in.
    leave_out = {"batch_seconds"}
    if not config.quantizer.has_units:
        leave_out |= {"assignment", "soft_tau"}
    settings = settings_of(config.asr_evaluation, leave_out)
    # The file's content counts, not its place.
    settings.get("language_model", {}).pop("path", None)
    return {"asr_evaluation": settings}


def _sources(config: Config) -> dict[str, Source]:
    language_model = config.asr_evaluation.language_model
    if language_model.path is None:
        return {}
    return {"language_model": Source(language_model, fingerprint)}


def _requires(config: Config) -> None:
    """Raises a LanguageModelError where the search's model needs a package that is not installed."""
    language_model = config.asr_evaluation.language_model
    if language_model.path is not None and language_model.is_kenlm:
        require_kenlm(language_model.path)


def _is_soft(config: Config) -> bool:
    return config.quantizer.has_units and config.asr_evaluation.assignment == "soft"


def _chooses_tau(config: Config) -> bool:
    return _is_soft(config) and config.asr_evaluation.soft_tau is None


def _training(config: Config) -> str:
    return "train_token_asr" if config.has_token_asr else "train_joint"


def _inputs(config: Config, split: str) -> tuple[Input, ...]:
    trained = Input(_training(config))
    if config.quantizer.has_units and not _is_soft(config):
        texts, *tokens = token_inputs(config, split)
        return (texts, trained, *tokens)
    splits = (
        dict.fromkeys((split, config.corpus.splits.valid)) if _chooses_tau(config) else (split,)
    )
    parts = tuple(part for each in splits for part in parts_of(each, AUDIO, TEXT))
    return (Input("prepare_corpus", parts=parts), trained)


def _run(context: StageContext) -> dict[str, float]:
    from pipeline.asr.evaluation import Transcripts
    from pipeline.asr.shard_transcriber import texts_of
    from pipeline.corpus.read_outputs import read_split

    about_tau = {"soft_tau": _tau(context)} if _is_soft(context.config) else {}
    utterances = read_split(context.inputs["prepare_corpus"], context.split)
    found = texts_of(_decode(context, utterances, about_tau.get("soft_tau")))
    transcripts = Transcripts.of(utterances, found)
    context.output.write_table("hypotheses.parquet", transcripts.table())
    if context.config.asr_evaluation.nbest > 1:
        context.output.write_table("nbest.parquet", transcripts.nbest_table())
    scores = transcripts.scores() | about_tau
    return {f"{context.split}.{name}": value for name, value in scores.items()}


def _decode(
    context: StageContext, utterances: "Sequence[Utterance]", tau: float | None
) -> list[dict[str, Any]]:
    """What `ShardTranscriber` says of all utterances, here or on the workers that there are."""
    from pipeline.asr.shard_transcriber import ShardTranscriber
    from pipeline.corpus.shards import plan_shards

    config, workers = context.config, context.config.cluster.decoding_workers
    arguments: dict[str, Any] = {
        "trained": context.inputs[_training(config)],
        "open_reader": partial(_open_reader, config, context.inputs, context.split, tau),
        "open_scorers": partial(load, config.asr_evaluation.language_model),
        "settings": config.asr_evaluation,
    }
    if not workers:
        report = partial(context.progress.update, total=len(utterances), unit="utterances")
        return [ShardTranscriber(**arguments)(context.split, utterances, report)]
    from pipeline.runtime.shard_pool import run_shards

    layout = config.features.shard_utterances, config.features.shard_seconds
    return run_shards(
        ShardTranscriber,
        arguments,
        plan_shards(utterances, *layout),
        config.cluster,
        context.progress,
        num_workers=workers,
    )


def _open_reader(
    config: Config,
    inputs: "Mapping[str, Artifact]",
    split: str,
    tau: float | None,
    device: "torch.device",
) -> "Reader":
    """What gives the ASR model's inputs for some utterances.

    The inputs are units or their subwords (T), mixtures of units (T x K) or features (T x D).
    """
    from pipeline.tokenizer.feature_mixer import FeatureMixer
    from pipeline.tokenizer.soft_tokenizer import SoftTokenizer
    from pipeline.tokenizer.unit_tokenizer import UnitTokenizer

    trained, placed = inputs[_training(config)], (device, config.features.compile)
    if not config.quantizer.has_units:
        with trained.read_folder("features") as folder:
            return _from_audio(config, FeatureMixer.from_pretrained(folder).place(*placed).encode)
    if tau is None:
        return _from_tokens(config, inputs, split)
    with trained.read_folder("tokenizer") as folder:
        tokenizer = UnitTokenizer.from_pretrained(folder).place(*placed)
    return _from_audio(config, SoftTokenizer(tokenizer, tau).encode)


def _from_tokens(config: Config, inputs: "Mapping[str, Artifact]", split: str) -> "Reader":
    from pipeline.corpus.read_outputs import read_tokens, tokens_in
    from pipeline.units.subwords import Subwords

    units = read_tokens(tokens_in(inputs, split), split)
    if not config.has_token_asr:
        return lambda utterances: [units[each.utt_id] for each in utterances]
    with inputs[_training(config)].read_folder(Subwords.FOLDER) as folder:
        subwords = Subwords.load(folder)
    return lambda utterances: [subwords.encode(units[each.utt_id]) for each in utterances]


def _from_audio(
    config: Config, encode: "Callable[[Sequence[np.ndarray]], list[np.ndarray]]"
) -> "Reader":
    from pipeline.audio.decode import read_utterance

    rate_hz = config.corpus.sample_rate_hz
    return lambda utterances: encode([read_utterance(each, rate_hz) for each in utterances])


def _tau(context: StageContext) -> float:
    """The temperature that the config names, or the one that is best on the validation split."""
    from pipeline.asr.model import AsrModel
    from pipeline.tokenizer.unit_tokenizer import UnitTokenizer

    if (named := context.config.asr_evaluation.soft_tau) is not None:
        return named
    trained = context.inputs[_training(context.config)]
    with trained.read_folder("asr") as folder:
        model = AsrModel.from_pretrained(folder)
    with trained.read_folder("tokenizer") as folder:
        tokenizer = UnitTokenizer.from_pretrained(folder)
    return _best_tau(context, model, tokenizer)


def _best_tau(context: StageContext, model: "AsrModel", tokenizer: "UnitTokenizer") -> float:
    """The temperature with the fewest word errors of greedy CTC on the validation split."""
    from pipeline.asr.soft_tau import best, candidates, wer_by_tau
    from pipeline.corpus.read_outputs import read_split

    utterances = read_split(context.inputs["prepare_corpus"], context.config.corpus.splits.valid)
    wers = wer_by_tau(
        model,
        _from_audio(context.config, tokenizer.closeness),
        utterances,
        candidates(tokenizer.centroids_KD),
        batch_seconds=context.config.asr_evaluation.batch_seconds,
        report=partial(context.progress.update, total=len(utterances), unit="utterances for tau"),
    )
    tried = [{"tau": tau, "wer_greedy": wer} for tau, wer in wers.items()]
    context.output.write_json("soft_tau.json", tried)
    return best(wers)


STAGE = Stage(
    name="evaluate_asr",
    version=3,
    settings=_settings,
    sources=_sources,
    run=_run,
    splits=lambda config: config.corpus.splits.test,
    inputs=_inputs,
    requires=_requires,
    without_audio=True,
    cpus=1,
    workers=lambda config: config.cluster.decoding_workers,
    headline=("wer", "cer"),
)
