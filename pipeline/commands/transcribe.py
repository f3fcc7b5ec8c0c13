"""`transcribe`: the text of audio files, by a trained tokenizer and ASR model."""

from collections.abc import Sequence

from rich.console import Console

from pipeline.asr.model import AsrModel
from pipeline.commands.find_model import load_model
from pipeline.commands.waveforms import readable, split_at_pauses
from pipeline.config import AsrEvaluation
from pipeline.storage.artifacts import Artifact
from pipeline.tokenizer.feature_mixer import FeatureMixer
from pipeline.tokenizer.unit_tokenizer import UnitTokenizer

MAX_SECONDS = 30.0


def transcribe(model: str, audio: Sequence[str], console: Console) -> bool:
    """Print each file's text; return whether all files could be read.

    `model` is an output of train_joint. Long audio is cut at pauses, because the attention decoder
    has learned from short utterances.
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
        parts = split_at_pauses(waveform, grid.sample_rate_hz, MAX_SECONDS)
        inputs = encoder.encode([part for part in parts if grid.num_frames(len(part))])
        # One part at a time: an hour of them is no batch.
        texts = [asr.transcribe([frames], AsrEvaluation())[0] for frames in inputs]
        text = " ".join(filter(None, texts))
        console.print(f"{uri}: {text}", markup=False, highlight=False, soft_wrap=True)
        num_read += 1
    return num_read == len(audio)
