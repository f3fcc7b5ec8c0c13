"""Hear what a codebook keeps: an audio file becomes units, and the units become speech again.

python examples/tokenize_and_listen.py speech.wav --run runs/demo --variant dkm_full
"""

import argparse
import json
from pathlib import Path

import numpy as np

from pipeline.audio.audio_files import read_whole
from pipeline.audio.decode import write_audio
from pipeline.tokenizer.unit_tokenizer import UnitTokenizer
from pipeline.vocoder.generator import UnitVocoder


def find_models(run: Path, variant: str) -> tuple[Path, Path]:
    """The folders of a variant's vocoder and of the tokenizer that it was trained on."""
    for path in run.glob("train_vocoder/*/manifest.json"):  # written when a stage is complete
        manifest = json.loads(path.read_text(encoding="utf-8"))
        if variant in manifest["variants"]:
            trained = run / "train_joint" / manifest["inputs"]["train_joint"]
            return path.parent / "vocoder", trained / "tokenizer"
    raise SystemExit(f"{run} has no vocoder of {variant}: give `make demo`, or --run and --variant")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("audio", help="any rate, any length")
    parser.add_argument("--run", type=Path, default=Path("runs/demo"), help="a storage folder")
    parser.add_argument("--variant", default="dkm_full")
    parser.add_argument("--output", type=Path, default=Path("resynthesized.wav"))
    options = parser.parse_args()

    vocoder_folder, tokenizer_folder = find_models(options.run, options.variant)
    tokenizer = UnitTokenizer.from_pretrained(tokenizer_folder)
    vocoder = UnitVocoder.from_pretrained(vocoder_folder)

    waveform = read_whole(options.audio, tokenizer.mixer.ssl.grid)  # float32, mono, 16 kHz
    [units] = tokenizer.encode([waveform])  # uint16, 50 a second
    print(*units)
    print(f"{len(units)} units, {len(np.unique(units))} different")

    speech = vocoder.resynthesize(units, speaker=None)  # None: the average of all speakers
    write_audio(options.output, speech, vocoder.sample_rate_hz, format="WAV")
    print(f"{options.output}: {len(speech) / vocoder.sample_rate_hz:.2f} s")


if __name__ == "__main__":
    main()
