"""`transcribe`: the text of audio files, by a trained tokenizer and ASR model."""

from collections.abc import Sequence

import numpy as np
import torch
from rich.console import Console

from pipeline.asr.model import AsrModel
from pipeline.asr.search import beam_search
from pipeline.commands.find_model import load_model
from pipeline.commands.waveforms import readable, split_at_pauses
from pipeline.config import AsrEvaluation
from pipeline.storage.artifacts import Artifact
from pipeline.tokenizer.feature_mixer import FeatureMixer
from pipeline.tokenizer.unit_tokenizer import UnitTokenizer

MAX_SECONDS = 30.0


def transcribe(model: str, audio: Sequence[str], console: Console) -> bool:
    """Print each file's text; whether all files could be read.

    `model` is an output of train_joint. Longer audio is cut at pauses, since attention has
    learned no longer utterances.
    """
    asr = load_model(f"{model.rstrip('/')}/asr", "asr", AsrModel.from_pretrained)
    encoder: UnitTokenizer | FeatureMixer
    if Artifact(model.rstrip("/")).exists("tokenizer"):
        encoder = load_model(model, "tokenizer", UnitTokenizer.from_pretrained)
        grid = encoder.mixer.ssl.grid
    else:
        encoder = load_model(model, "features", FeatureMixer.from_pretrained)
        grid = encoder.ssl.grid
    num_read = 0
    for uri, waveform in readable(audio, grid, console):
        pieces = split_at_pauses(waveform, grid.sample_rate_hz, MAX_SECONDS)
        frames = encoder.encode([piece for piece in pieces if grid.num_frames(len(piece))])
        text = " ".join(filter(None, (recognise(asr, piece) for piece in frames)))
        console.print(f"{uri}: {text}", markup=False, highlight=False, soft_wrap=True)
        num_read += 1
    return num_read == len(audio)


def recognise(asr: AsrModel, frames: np.ndarray) -> str:
    """The text of one utterance's units (T) or features (T x D), by joint beam search."""
    settings = AsrEvaluation()
    kind = np.float32 if frames.ndim == 2 else np.int64
    with torch.inference_mode():
        embedded_1TE = asr.embed(torch.from_numpy(frames.astype(kind))[None])
        (text,) = beam_search(
            asr,
            embedded_1TE,
            torch.tensor([len(frames)]),
            beam_size=settings.beam_size,
            ctc_weight=settings.ctc_weight,
            max_length_share=settings.max_length_share,
        )
    return text
