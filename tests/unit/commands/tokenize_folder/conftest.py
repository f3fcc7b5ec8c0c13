"""A tokenizer, a folder of audio, and no Ray."""

from contextlib import nullcontext
from pathlib import Path

import pytest
from support import save_tiny_tokenizer, tone_utterances

from pipeline.commands import tokenize_listing
from pipeline.runtime import session, shard_pool


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    return save_tiny_tokenizer(tmp_path_factory.mktemp("train_joint"))


@pytest.fixture
def made(monkeypatch) -> list[str]:
    """No Ray; the names of the shards that a worker is given, in their order."""
    names = []

    def run_shards(worker_class, arguments, shards, _cluster, _progress):
        worker = worker_class(**arguments)
        for shard in shards:
            names.append(Path(shard.name).stem)
            worker(shard.name, list(shard.utterances))

    monkeypatch.setattr(shard_pool, "run_shards", run_shards)
    monkeypatch.setattr(session, "ray_session", lambda _cluster: nullcontext())
    monkeypatch.setattr(tokenize_listing, "SHARD_UTTERANCES", 3)
    return names


@pytest.fixture
def audio(tmp_path):
    folder = tmp_path / "new"
    (folder / "deep").mkdir(parents=True)
    tone_utterances(folder, "first", 4)
    tone_utterances(folder / "deep", "second", 3)
    return folder
