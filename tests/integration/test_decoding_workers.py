"""Decoding on a Ray worker gives the texts of a single process."""

import numpy as np
import pytest
import torch
from support import SMALL_ASR, run_shards_here

from pipeline import config
from pipeline.asr.model import AsrModel
from pipeline.asr.shard_transcriber import ShardTranscriber, texts_of
from pipeline.asr.text_pieces import TextPieces
from pipeline.audio.utterance import Utterance
from pipeline.corpus.shards import plan_shards
from pipeline.progress import Progress
from pipeline.runtime.shard_pool import run_shards
from pipeline.storage.artifacts import Artifact

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("local_ray")]


def test_a_worker_decodes_what_this_process_does(tmp_path):
    torch.manual_seed(0)
    pieces = TextPieces.train(config.TextPieces(), ["abc "])
    trained = Artifact(str(tmp_path))
    with trained.write_folder("asr") as folder:
        AsrModel(config.Asr(**SMALL_ASR), 8, None, pieces).save_pretrained(folder)
    units = {f"u{n}": np.random.default_rng(n).integers(8, size=10 + n) for n in range(6)}
    utterances = [Utterance(u, "test", "", 0.0, len(row) / 50, "s", "") for u, row in units.items()]
    arguments = {
        "trained": trained,
        "open_reader": lambda _device: lambda some: [units[each.utt_id] for each in some],
        "open_scorers": lambda _pieces, _device: (),
        "settings": config.AsrEvaluation(beam_size=2, nbest=2, max_length_share=0.5),
    }
    shards = plan_shards(utterances, 2)
    sent = []
    found = texts_of(
        run_shards(
            ShardTranscriber,
            arguments,
            shards,
            config.Cluster(),
            Progress(sent.append),
            num_workers=1,
        )
    )
    wanted = texts_of(run_shards_here(ShardTranscriber, arguments, shards))
    assert found.keys() == units.keys()
    for utt_id, (greedy, beam) in found.items():
        assert greedy == wanted[utt_id][0]
        assert [each.text for each in beam] == [each.text for each in wanted[utt_id][1]]
    assert sent[-1].done == pytest.approx(sent[-1].total)
