"""What the process that leads an extraction holds, by the number of utterances."""

import json
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks.measure import Cost
from benchmarks.record import Record

SAMPLE_RATE_HZ = 16_000
UTTERANCE_SECONDS = 0.3


@dataclass(frozen=True)
class Setting:
    """How many utterances of a third of a second there are, at least and at most."""

    few: int
    many: int


SIZES = {"full": Setting(200, 20_000), "small": Setting(4, 12)}
PAIRS = (("many utterances", "few utterances"),)


def run(size: str, device: torch.device) -> Record:
    setting = SIZES[size]
    costs = {
        f"{name} utterances": measured(number, name)
        for name, number in (("few", setting.few), ("many", setting.many))
    }
    grown = costs["many utterances"].extra_bytes, costs["few utterances"].extra_bytes
    checks = {"driver MB more for many": ((grown[0] or 0) - (grown[1] or 0)) / 1e6}
    return Record("driver_memory", device.type, size, asdict(setting), costs, {}, PAIRS, checks)


def measured(number: int, name: str) -> Cost:
    """In a process of its own: the extraction of so many utterances, and the driver's peak."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "benchmarks.driver_memory", folder, str(number)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    what = f"{name}: {number} utterances prepared and extracted, tiny encoder"
    return Cost(what, 1.0, (found["seconds"],), found["bytes"])


def write_corpus(folder: Path, number: int) -> None:
    """One long file that all utterances are stretches of."""
    import soundfile

    from benchmarks.extraction import split_of

    generator = np.random.default_rng(0)
    samples = generator.normal(0, 0.1, int(number * UTTERANCE_SECONDS * SAMPLE_RATE_HZ))
    soundfile.write(folder / "all.wav", samples.astype(np.float32), SAMPLE_RATE_HZ)
    row = {"audio": "all.wav", "speaker": "s", "text": "a"}
    rows = [
        {
            **row,
            "utt_id": f"{place:06d}",
            "split": split_of(place),
            "offset": place * UTTERANCE_SECONDS,
            "duration": UTTERANCE_SECONDS,
        }
        for place in range(number)
    ]
    (folder / "manifest.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")


def main(folder: Path, number: int) -> None:
    from benchmarks.codebook import processes_watched
    from benchmarks.extraction import SIZES as EXTRACTIONS
    from benchmarks.extraction import extract, save_model

    model = save_model(EXTRACTIONS["small"], folder / "ssl")
    write_corpus(folder, number)
    with processes_watched() as peaks:
        _, seconds = extract(EXTRACTIONS["small"], folder, model)
    print(json.dumps({"seconds": seconds, "bytes": int(peaks["driver GB"] * 1e9)}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
