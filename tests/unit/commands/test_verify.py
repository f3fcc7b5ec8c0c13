"""A damaged or missing shard is found, and a run writes just that one again, to the same bytes."""

import json
import re
from pathlib import Path

import pytest
import torch
from rich.console import Console
from support import save_tiny_ssl, tiny_config, tone_utterances, write_corpus
from typer.testing import CliRunner

from pipeline.__main__ import app
from pipeline.commands.verify import verify
from pipeline.config import ConfigError
from pipeline.features.encoders.load import load_encoder
from pipeline.graph import graph as stage_graph
from pipeline.quantizer.layer_mix import LayerMix
from pipeline.runtime import node_run, shard_pool
from pipeline.storage.artifacts import MANIFEST, Artifact
from pipeline.storage.s3 import StorageError
from pipeline.tokenizer.feature_mixer import FeatureMixer
from pipeline.tokenizer.unit_tokenizer import UnitTokenizer

FOLDERS = {"extract_features": "shards", "tokenize_corpus": "tokens"}


def one_after_the_other(worker_class, arguments, shards, _cluster, _progress):
    """`run_shards` without Ray."""
    worker = worker_class(**arguments)
    return [worker(shard.name, list(shard.utterances)) for shard in shards]


class Project:
    """A corpus and a tokenizer that stand, and the stages that read them."""

    def __init__(self, folder: Path) -> None:
        manifest = folder / "manifest.jsonl"
        manifest.write_text("")
        ssl = save_tiny_ssl(folder / "ssl")
        self.config = tiny_config(
            ssl,
            storage=str(folder / "runs"),
            corpus={"manifest": str(manifest)},
            features={"shard_utterances": 3},
        )
        corpus = self.node("prepare_corpus").artifact
        splits = {"train": 7, "valid": 1, "test": 1}
        utterances = [
            one for split, count in splits.items() for one in tone_utterances(folder, split, count)
        ]
        write_corpus(corpus, utterances).finish({"seconds": 1.0})
        trained = self.node("train_joint").artifact
        mixer = FeatureMixer(load_encoder(ssl), (0, 2), LayerMix(2, 1, 0.8, learned=False))
        torch.manual_seed(0)
        with trained.write_folder("tokenizer") as place:
            UnitTokenizer(mixer, torch.randn(8, 16)).save_pretrained(place)
        trained.finish({"seconds": 1.0})

    def node(self, stage):
        """The stage's node; that of the training split if there are several."""
        return next(node for node in self.nodes(stage) if node.split in {"", "train"})

    def nodes(self, stage):
        graph = stage_graph.build([self.config], [stage])
        return [node for node in graph.nodes if node.stage.name == stage]

    def run(self, stage):
        """As a run would: nothing where the manifest stands."""
        for node in self.nodes(stage):
            if not node.artifact.is_complete():
                outcome = node_run.run_node(node, node_run.Start())
                assert outcome.status == "done", outcome.error

    def verify(self, stage, **options):
        console = Console(record=True, width=300)
        options = {"quick": False, "repair": False, **options}
        good = verify(stage, [self.config], console, **options)
        return good, console.export_text()


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.setattr(shard_pool, "run_shards", one_after_the_other)
    return Project(tmp_path)


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGES = {
    "flipped": (flip, "has changed"),
    "cut short": (
        lambda path: path.write_bytes(path.read_bytes()[:-3]),
        r"has \d+ bytes instead of \d+",
    ),
    "deleted": (Path.unlink, "is missing"),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("stage", FOLDERS)
def test_a_damaged_shard_alone_is_written_again(project, stage, damage):
    project.run(stage)
    node = project.node(stage)
    folder = Path(node.artifact.path(FOLDERS[stage]))
    contents = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert len(contents) == 3
    files = node.artifact.read_json(MANIFEST)["files"]
    assert project.verify(stage)[0]

    harm, said = DAMAGES[damage]
    harm(folder / "train-00001.parquet")
    good, output = project.verify(stage)
    assert not good
    assert re.search(rf"train-00001\.parquet: {said}", output)
    assert "1 damaged or missing" in output
    assert project.verify(stage, quick=True)[0] == (damage == "flipped")
    assert node.artifact.is_complete()

    good, output = project.verify(stage, repair=True)
    assert good
    assert "1 deleted; the command that wrote them writes them again" in output
    assert not node.artifact.is_complete()
    good, output = project.verify(stage)
    assert not good
    assert "not finished; the command that writes it resumes it" in output
    assert "0 damaged or missing" in output
    assert project.verify(stage, repair=True)[0]
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert sorted(before) == sorted(set(contents) - {"train-00001.parquet"})
    project.run(stage)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == contents
    assert {name: (folder / name).stat().st_mtime_ns for name in before} == before
    assert node.artifact.read_json(MANIFEST)["files"] == files
    assert project.node(stage).digest == node.digest
    assert project.verify(stage)[0]


def test_a_run_that_is_not_finished_is_verified_as_far_as_it_is(project):
    project.run("extract_features")
    output = project.node("extract_features").artifact
    output.delete(MANIFEST)
    good, said = project.verify("extract_features")
    assert not good
    assert "not finished" in said
    assert "3 files checked, 0 damaged or missing" in said
    flip(Path(output.path("shards/train-00000.parquet")))
    assert "1 damaged or missing" in project.verify("extract_features", repair=True)[1]
    assert not output.exists("shards/train-00000.parquet")
    project.run("extract_features")
    assert project.verify("extract_features")[0]


def test_a_store_that_fails_costs_no_file(project, monkeypatch):
    project.run("extract_features")
    output = project.node("extract_features").artifact

    def fails(*_arguments):
        raise StorageError("the store cannot be reached")

    with monkeypatch.context() as patch:
        patch.setattr(Artifact, "checksum", fails)
        with pytest.raises(StorageError):
            project.verify("extract_features", repair=True)
    assert project.verify("extract_features")[0]
    assert output.is_complete()


@pytest.mark.parametrize("content", ["{", "[]", "{}"])
def test_a_damaged_manifest_is_written_again(project, content):
    project.run("extract_features")
    output = project.node("extract_features").artifact
    files = output.read_json(MANIFEST)["files"]
    Path(output.path(MANIFEST)).write_text(content)
    good, said = project.verify("extract_features", repair=True)
    assert good
    assert "manifest.json is damaged" in said
    assert not output.is_complete()
    project.run("extract_features")
    assert output.read_json(MANIFEST)["files"] == files


def test_checksums_are_taken_while_writing_not_by_reading_again(project, monkeypatch):
    read, checksum = [], Artifact.checksum

    def noted(self, name, progress=None):
        read.append(name)
        return checksum(self, name, progress)

    monkeypatch.setattr(Artifact, "checksum", noted)
    project.run("extract_features")
    assert read
    assert not any(name.startswith("shards/") for name in read)


def test_the_command_ends_with_1_where_something_is_wrong(project, tmp_path):
    project.run("extract_features")
    values = json.loads(project.config.model_dump_json())
    config = tmp_path / "tiny.yaml"
    config.write_text(json.dumps(values))
    asked = ["verify", "extract_features", str(config)]
    result = CliRunner().invoke(app, asked)
    assert result.exit_code == 0, result.output
    Path(project.node("extract_features").artifact.path("shards/train-00000.parquet")).unlink()
    assert CliRunner().invoke(app, [*asked, "--quick"]).exit_code == 1
    assert CliRunner().invoke(app, [*asked, "--repair"]).exit_code == 0
    assert CliRunner().invoke(app, asked).exit_code == 1
    assert CliRunner().invoke(app, [*asked, "--repair"]).exit_code == 0
    assert CliRunner().invoke(app, ["verify", "no_stage", str(config)]).exit_code == 1


@pytest.mark.parametrize("kept", [False, True])
def test_what_was_made_from_a_damaged_training_is_made_again_unless_it_can_resume(project, kept):
    training = project.config.training.model_copy(update={"keep_checkpoints": kept})
    project.config = project.config.model_copy(update={"training": training})
    project.run("tokenize_corpus")
    made = [node.artifact for node in project.nodes("tokenize_corpus")]
    flip(Path(project.node("train_joint").artifact.path("tokenizer/model.safetensors")))
    assert not project.verify("train_joint")[0]
    assert all(output.is_complete() for output in made)
    good, output = project.verify("train_joint", repair=True)
    assert good
    assert ("tokenize_corpus/train[tiny]: to be made again" in output) == (not kept)
    assert [output.is_complete() for output in made] == [kept] * len(made)
    assert project.node("prepare_corpus").artifact.is_complete()


def test_a_stage_that_the_configs_do_not_have_is_no_success(project):
    with pytest.raises(ConfigError, match="train_token_asr is no part of tiny: name a stage"):
        project.verify("train_token_asr")
