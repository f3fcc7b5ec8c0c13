"""Phone purity over a hundred million frames: from Parquet files to scores.

The peer reads files of the same kind an utterance and a frame at a time, a hundredth of them.
"""

import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from reference import purity as reference
from reference.frame_labels import frame_segments
from reference.units_per_phone import units_per_phone

from benchmarks.measure import Contender, costs, gather
from benchmarks.record import Record
from pipeline.audio.frame_grid import SSL_GRID
from pipeline.audio.utterance import SILENCE
from pipeline.config import Config, Purity
from pipeline.corpus.read_outputs import read_split, read_tokens
from pipeline.graph.stage import StageContext
from pipeline.log.stage_log import StageLog
from pipeline.metrics.purity import scores
from pipeline.storage import table_schemas
from pipeline.storage.artifacts import Artifact
from tasks.phone_purity import count

SPLIT = "test"
NAMES = ("prepare_corpus", "train_joint", f"tokenize_corpus/{SPLIT}")
PAIRS = (("loop", "ours"),)


@dataclass(frozen=True)
class Setting:
    """Utterances of `frames` frames, of which `of_loop` are for the loop; a phone has five frames.

    `utterances` are cut into shards as the config's default has it.
    """

    utterances: int
    frames: int
    of_loop: int
    num_units: int
    num_phones: int
    rounds: int
    utterances_of_shard: int = 128


SIZES = {
    "full": Setting(150_000, 667, 1_500, 2000, 40, 3),
    "small": Setting(300, 50, 20, 8, 4, 2),
}


def run(size: str, device: torch.device) -> Record:
    setting = SIZES[size]
    with tempfile.TemporaryDirectory(prefix="purity-") as folder:
        whole = context(Path(folder, "whole"), setting, setting.utterances)
        part = context(Path(folder, "part"), setting, setting.of_loop)
        share = setting.of_loop / setting.utterances
        contenders, left_out = gather(
            {
                "ours": lambda: Contender(
                    "the counts and scores of the stage phone_purity", lambda: ours(whole)
                ),
                "loop": lambda: Contender(
                    "tests/reference: each utterance, each frame", lambda: loop(part), share
                ),
            }
        )
        found = costs(contenders, device, setting.rounds)
        checks = {"counts of the loop that are not ours": float(differing(part))}
    return Record("purity", device.type, size, asdict(setting), found, left_out, PAIRS, checks)


def context(folder: Path, setting: Setting, utterances: int) -> StageContext:
    """What the stage reads, of so many utterances."""
    inputs = {name: Artifact(str(folder / name)) for name in NAMES}
    inputs["train_joint"].write_json("tokenizer/config.json", {"num_units": setting.num_units})
    grid = {"conv_kernel": [SSL_GRID.receptive_field], "conv_stride": [SSL_GRID.hop]}
    inputs["train_joint"].write_json("tokenizer/ssl/config.json", grid)
    chance = np.random.default_rng(0)
    names = [f"speaker-{number % 251:03d}-{number:07d}" for number in range(utterances)]
    rows = {"alignment": alignments(setting, utterances, chance)}
    texts = dict.fromkeys(("audio", "speaker", "text", "audio_version", "audio_sha256"), "")
    rows |= {name: pa.repeat(text, utterances) for name, text in texts.items()}
    rows |= {"utt_id": pa.array(names), "split": pa.repeat(SPLIT, utterances)}
    seconds = {"offset": 0.0, "duration": setting.frames / SSL_GRID.frames_per_second}
    rows |= {name: pa.repeat(value, utterances) for name, value in seconds.items()}
    corpus = pa.table({name: rows[name] for name in table_schemas.CORPUS.names})
    inputs["prepare_corpus"].write_table("corpus.parquet", corpus.cast(table_schemas.CORPUS))
    shuffled = chance.permutation(names).tolist()  # shards are in another order than the corpus
    for number, first in enumerate(range(0, utterances, setting.utterances_of_shard)):
        shard = tokens(setting, shuffled[first : first + setting.utterances_of_shard], chance)
        inputs[NAMES[2]].write_table(f"tokens/{SPLIT}-{number:05d}.parquet", shard)
    section = {"kind": "manifest", "manifest": "none.jsonl"}
    config = Config.model_validate(
        {"variant": "benchmark", "corpus": section, "ssl": {"model": str(folder)}}
    )
    output = Artifact(str(folder / "out"))
    return StageContext(config, output, inputs, StageLog(output), split=SPLIT)


def alignments(setting: Setting, utterances: int, chance: np.random.Generator) -> pa.Array:
    """Phones one after another, with silences among them."""
    phones = setting.frames // 5
    ends = np.cumsum(chance.uniform(0.02, 0.18, (utterances, phones)), axis=1)
    starts = np.column_stack((np.zeros(utterances), ends[:, :-1]))
    labels = np.array(["sil", *(f"P{number}" for number in range(1, setting.num_phones))])
    drawn = chance.integers(0, setting.num_phones, utterances * phones)
    segments = pa.StructArray.from_arrays(
        [starts.ravel(), ends.ravel(), pa.array(labels).take(pa.array(drawn))],
        ["start", "end", "label"],
    )
    bounds = np.arange(utterances + 1, dtype=np.int32) * phones
    return pa.ListArray.from_arrays(bounds, segments)


def tokens(setting: Setting, names: list[str], chance: np.random.Generator) -> pa.Table:
    """Units in runs of two frames."""
    shape = (len(names), -(-setting.frames // 2))
    units = np.repeat(chance.integers(0, setting.num_units, shape, dtype=np.uint16), 2, axis=1)
    units = units[:, : setting.frames]
    bounds = np.arange(len(names) + 1, dtype=np.int32) * setting.frames
    columns = {
        "utt_id": names,
        "split": [SPLIT] * len(names),
        "units": pa.ListArray.from_arrays(bounds, units.ravel()),
        "num_frames": [setting.frames] * len(names),
    }
    return pa.table(columns, schema=table_schemas.TOKENS)


def ours(found: StageContext) -> tuple[()]:
    counts, units_per_phone_counts = count(found)
    scores(counts, found.config.purity), units_per_phone_counts.scores()
    return ()


def loop(found: StageContext) -> tuple[()]:
    """The same scores: each measure without silence and with it."""
    frames = list(frames_of(found))
    counts = reference.joint_counts(frames, Purity().silence_labels)
    speech = Counter({pair: number for pair, number in counts.items() if pair[0] != SILENCE})
    for of_kind in (counts, speech):
        pairs = list(of_kind.elements())
        reference.phone_purity(pairs), reference.cluster_purity(pairs), reference.pnmi(pairs)
    units_per_phone(frames)
    return ()


def frames_of(found: StageContext) -> Iterator[tuple[list[object], list[int]]]:
    """Of each utterance the segments and units of its frames."""
    units = read_tokens(found.inputs[NAMES[2]], SPLIT)
    for one in read_split(found.inputs["prepare_corpus"], SPLIT, aligned=True):
        units_T = units[one.utt_id].tolist()
        yield frame_segments(one.alignment or (), len(units_T), SSL_GRID.centre_seconds), units_T


def differing(found: StageContext) -> int:
    """How many frames the loop and the stage count differently."""
    counts, _ = count(found)
    rows = zip(counts.phones, counts.matrix.tolist(), strict=True)
    ours = Counter({(label, unit): n for label, row in rows for unit, n in enumerate(row)})
    ours.subtract(reference.joint_counts(frames_of(found), Purity().silence_labels))
    return sum(map(abs, ours.values()))
