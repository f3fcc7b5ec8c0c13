"""Coresets as files: read as written, named by what they are made of, taken over where lacking."""

from dataclasses import replace

import pytest
import torch

from pipeline.clustering.coreset import Coreset
from pipeline.clustering.coreset_store import CoresetStore
from pipeline.storage.artifacts import Artifact, ArtifactError


def coreset(seed=0, num_rejected=0):
    chance = torch.Generator().manual_seed(seed)
    frames = torch.randn((7, 3), generator=chance).half()
    return Coreset(frames, torch.rand(7, generator=chance), num_rejected)


def store(folder, layer=2, size=64, seed=0, encoder=""):
    return CoresetStore(Artifact(str(folder)), layer, size, seed, encoder)


def same(one, other):
    return (
        one.frames_MD.equal(other.frames_MD)
        and one.weights_M.equal(other.weights_M)
        and one.num_rejected == other.num_rejected
    )


@pytest.mark.parametrize(
    "written", [coreset(num_rejected=5), Coreset(torch.empty(0, 3).half(), torch.empty(0), 2)]
)
def test_what_is_read_is_what_was_written(tmp_path, written):
    kept = store(tmp_path)
    kept.write("some-key", written)
    read = store(tmp_path).read("some-key")
    assert read.frames_MD.dtype == torch.float16
    assert read.weights_M.dtype == torch.float32
    assert same(read, written)


def test_a_key_depends_on_the_shard_and_on_each_setting(tmp_path):
    one = store(tmp_path)
    others = [replace(one, **{name: 3}) for name in ("layer", "size", "seed")]
    keys = [one.key("00ff"), one.key("00fe"), *(other.key("00ff") for other in others)]
    assert len(set(keys)) == 5
    assert store(tmp_path / "elsewhere").key("00ff") == keys[0]
    # Tasks draw by the last digits: shards and settings must not share them.
    assert len({int(key[-12:], 16) for key in keys}) == 5


def test_coresets_of_another_layer_size_or_seed_are_not_seen(tmp_path):
    """Added up with these they would be other values, or the same shards twice."""
    kept = store(tmp_path)
    assert kept.keys() == []
    for checksum in ("b", "a"):
        kept.write(kept.key(checksum), coreset())
    assert kept.keys() == sorted(kept.key(checksum) for checksum in "ab")
    for name in ("layer", "size", "seed"):
        other = replace(kept, **{name: 3})
        other.write(other.key("a"), coreset())
        assert other.keys() == [other.key("a")]
    assert len(kept.keys()) == 2


def test_only_what_is_lacking_is_taken_over(tmp_path):
    earlier, later = store(tmp_path / "earlier"), store(tmp_path / "later")
    for seed, checksum in enumerate("abc"):
        earlier.write(earlier.key(checksum), coreset(seed, num_rejected=seed))
    other = replace(earlier, layer=3)
    other.write(other.key("a"), coreset())
    own = coreset(9)
    later.write(later.key("b"), own)
    later.write(later.key("d"), own)
    assert later.take_over(earlier.output) == 2
    assert later.keys() == sorted(later.key(checksum) for checksum in "abcd")
    assert same(later.read(later.key("b")), own)
    for seed, checksum in ((0, "a"), (2, "c")):
        assert same(later.read(later.key(checksum)), coreset(seed, num_rejected=seed))
    assert replace(later, layer=3).keys() == []
    assert later.take_over(earlier.output) == 0


@pytest.mark.parametrize("kept", [{}, {"layer": 3}, {"size": 65}, {"seed": 1}])
def test_an_earlier_output_without_such_coresets_is_refused(tmp_path, kept):
    if kept:
        earlier = store(tmp_path / "earlier", **kept)
        earlier.write(earlier.key("a"), coreset())
    with pytest.raises(ArtifactError, match="earlier holds no coresets of 64 frames of layer 2"):
        store(tmp_path / "later").take_over(Artifact(str(tmp_path / "earlier")))


@pytest.mark.parametrize(
    ("theirs", "own", "refused"),
    [("a pool=1", "a pool=2", True), ("a", "a", False), ("", "a", False), ("a", "", False)],
)
def test_frames_of_another_encoder_are_not_added_to(tmp_path, theirs, own, refused):
    earlier = store(tmp_path / "earlier", encoder=theirs)
    earlier.write(earlier.key("a"), coreset())
    later = store(tmp_path / "later", encoder=own)
    if not refused:
        assert later.take_over(earlier.output) == 1
        return
    with pytest.raises(ArtifactError, match=r"earlier holds coresets of another encoder's frames"):
        later.take_over(earlier.output)
    assert later.keys() == []
