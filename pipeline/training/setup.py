"""From a config and the outputs of earlier stages to a joint model and its data."""

from collections.abc import Mapping

import torch

from pipeline.asr.model import AsrModel
from pipeline.asr.targets import target_of
from pipeline.asr.text_pieces import TextPieces
from pipeline.audio.unusable import UnusableError
from pipeline.audio.utterance import CorpusError, Reject, Utterance
from pipeline.clustering.codebook import Codebook
from pipeline.config import Config
from pipeline.corpus.speed import read_split_or_copy
from pipeline.corpus.summary import commonest
from pipeline.features.encoders.load import load_encoder
from pipeline.features.size import grid_of
from pipeline.features.ssl import SslModel
from pipeline.features.ssl_folder import ssl_to_load
from pipeline.features.windows import Windowing
from pipeline.quantizer.layer_mix import LayerMix
from pipeline.storage.artifacts import Artifact
from pipeline.training.inputs import (
    AudioSource,
    Example,
    FeatureSource,
    Source,
    TrainingData,
    feature_index,
)
from pipeline.training.joint_model import JointModel
from pipeline.training.loading import loader_cache_bytes
from pipeline.training.speech_targets import SpeechTargets, WithTargets, speaker_rows
from pipeline.vocoder.frame_mels import FrameMels
from pipeline.vocoder.mel_decoder import MelDecoder


def load_ssl(config: Config, inputs: Mapping[str, Artifact]) -> SslModel:
    """The SSL model up to the highest layer that the variant uses."""
    with ssl_to_load(config.ssl, inputs.get("train_joint")) as ssl:
        return load_encoder(
            ssl.source,
            ssl.revision,
            max_layer=max(config.used_layers),
            pad=ssl.pad,
            dropout=config.training.ssl_dropout,
            pool=config.features.pool,
        )


def build_model(
    config: Config,
    pieces: TextPieces,
    ssl: SslModel,
    codebook: Codebook | None,
    num_speakers: int = 0,
) -> JointModel:
    """A new joint model; random weights come from `config.training.seed` alone.

    The SSL model is part of it only where some phase fine-tunes it, and a decoder of spectra, with a
    row for each of `num_speakers`, only where there is a resynthesis loss. The decoder comes last, so
    that all others have the same weights with and without it.
    """
    torch.manual_seed(config.training.seed)
    layers = config.used_layers
    mix = LayerMix(
        len(layers),
        initial=layers.index(config.codebook.layer),
        initial_mass=config.quantizer.initial_layer_mass,
        learned=config.quantizer.layer_weights == "learned",
    )
    asr = AsrModel(
        config.asr,
        None if codebook is None else len(codebook.centroids_KD),
        ssl.hidden_size if codebook is None else None,
        pieces,
    )
    return JointModel(
        ssl if config.training.finetunes_ssl else None,
        layers,
        mix,
        None if codebook is None else config.quantizer.build(codebook),
        asr,
        mel_decoder=(
            MelDecoder(len(codebook.centroids_KD), num_speakers, config.resynthesis_loss.dim)
            if codebook is not None and config.resynthesis_loss.weight
            else None
        ),
        windowing=Windowing.of(config.features),
    )


def examples(
    utterances: list[Utterance], num_frames: dict[str, int], asr: AsrModel
) -> tuple[list[Example], list[Reject]]:
    """Utterances with their targets, and those whose text the model cannot write or align."""
    kept: list[Example] = []
    rejects: list[Reject] = []
    pieces, subsampling = asr.text_pieces, asr.settings.subsampling
    for utterance in utterances:
        try:
            target = target_of(utterance.text, num_frames[utterance.utt_id], pieces, subsampling)
        except UnusableError as error:
            rejects.append(Reject(utterance.utt_id, utterance.audio, str(error)))
        else:
            kept.append(Example(utterance, target))
    return kept, rejects


def _expected_frames(config: Config, utterances: list[Utterance]) -> dict[str, int]:
    """The frames of each utterance by its duration, for those whose features are not stored."""
    grid = grid_of(config)
    rate = grid.sample_rate_hz
    return {each.utt_id: grid.num_frames(round(each.duration * rate)) for each in utterances}


def training_data(
    config: Config, inputs: Mapping[str, Artifact], asr: AsrModel, device: torch.device
) -> tuple[TrainingData, list[Reject]]:
    """Examples of the training and validation splits, and where their frames come from.

    Raises:
        CorpusError: a split has no usable utterance.
    """
    kept: list[list[Example]] = []
    rejects: list[Reject] = []
    corpus, splits = inputs["prepare_corpus"], config.corpus.splits
    locations = feature_index(
        inputs[f"extract_features/{split}"] for split in config.feature_splits
    )
    stored = {utt_id: location.num_frames for utt_id, location in locations.items()}
    for parts in ((splits.train, *config.speed_copies), (splits.valid,)):
        utterances = [each for part in parts for each in read_split_or_copy(config, corpus, part)]
        counts = {**_expected_frames(config, utterances), **stored}
        usable, unusable = examples(utterances, counts, asr)
        if not usable:
            raise CorpusError(
                f"no utterance of split '{parts[0]}' can be trained on:\n{commonest(unusable)}\n"
                "Mend the texts, or change asr.text or asr.subsampling"
            )
        kept.append(usable)
        rejects += unusable
    cache_bytes = loader_cache_bytes(config.cluster, device)
    audio = AudioSource(config.corpus.sample_rate_hz, cache_bytes)
    sources: dict[str, Source] = {
        "frozen": FeatureSource(locations, config.used_layers, cache_bytes),
        "finetuned": audio,
    }
    if rows := speaker_rows(config, corpus):
        targets = SpeechTargets(audio, FrameMels(grid_of(config)), rows, cache_bytes // 4)
        sources = {name: WithTargets(source, targets) for name, source in sources.items()}
    return TrainingData(kept[0], kept[1], sources), rejects
