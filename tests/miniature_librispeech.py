"""LibriSpeech in its own layout, a few seconds long: audio, transcripts and the aligner's TextGrids.

Each letter of a text is a tone of a quarter of a second, and so a phone.
"""

from pathlib import Path

import numpy as np

from pipeline.audio.decode import write_audio

SAMPLE_RATE_HZ = 16000
PHONES = {"A": "AA1", "B": "B", "C": "K", "D": "D"}
SPLITS = {
    "train-clean-100": (("103", "1240", 6), ("1034", "121119", 6)),
    "dev-clean": (("1272", "128104", 3),),
    "test-clean": (("1089", "134686", 2),),
    "test-other": (("1688", "142285", 2),),
}


def write_librispeech(folder: Path) -> tuple[Path, Path]:
    """`LibriSpeech/` and `alignments/` below `folder`."""
    generator = np.random.default_rng(0)
    root, alignments = folder / "LibriSpeech", folder / "alignments"
    for split, chapters in SPLITS.items():
        for speaker, chapter, number in chapters:
            place = Path(split, speaker, chapter)
            (root / place).mkdir(parents=True)
            (alignments / place).mkdir(parents=True)
            lines = []
            for index in range(number):
                utt_id, text = f"{speaker}-{chapter}-{index:04d}", _text(generator)
                letters = text.replace(" ", "")
                samples = _tones(letters, generator)
                write_audio(str(root / place / f"{utt_id}.flac"), samples, SAMPLE_RATE_HZ)
                (alignments / place / f"{utt_id}.TextGrid").write_text(_text_grid(letters))
                lines.append(f"{utt_id} {text}\n")
            (root / place / f"{speaker}-{chapter}.trans.txt").write_text("".join(lines))
    return root, alignments


def _text(generator: np.random.Generator) -> str:
    words = ["".join(generator.choice(list(PHONES), 2)) for _ in range(generator.integers(2, 4))]
    return " ".join(words)


def _tones(letters: str, generator: np.random.Generator) -> np.ndarray:
    times = np.arange(SAMPLE_RATE_HZ // 4) / SAMPLE_RATE_HZ
    pitches = [300 + 400 * list(PHONES).index(letter) for letter in letters]
    tones = np.concatenate([np.sin(2 * np.pi * pitch * times) for pitch in pitches])
    return (0.3 * tones + 0.01 * generator.normal(size=len(tones))).astype(np.float32)


def _text_grid(letters: str) -> str:
    """In Praat's long form, with a tier of words and one of phones."""
    end = len(letters) / 4
    intervals = [
        f"        intervals [{index + 1}]:\n            xmin = {index / 4}\n"
        f'            xmax = {(index + 1) / 4}\n            text = "{PHONES[letter]}"\n'
        for index, letter in enumerate(letters)
    ]
    tier = (
        f'    item [1]:\n        class = "IntervalTier"\n        name = "phones"\n        xmin = 0\n'
        f"        xmax = {end}\n        intervals: size = {len(letters)}\n{''.join(intervals)}"
    )
    head = 'File type = "ooTextFile"\nObject class = "TextGrid"\n\n'
    return f"{head}xmin = 0\nxmax = {end}\ntiers? <exists>\nsize = 1\nitem []:\n{tier}"
