"""The guide: every command parses, every file and setting is there, every figure is recomputed."""

import re
import shlex
from pathlib import Path

import pytest
import torch
import typer
from cluster_files import CLUSTER, GUIDE, ROOT, document
from ray.scripts.scripts import cli as ray_cli
from transformers import WavLMConfig, WavLMModel

from pipeline.__main__ import app
from pipeline.asr.model import AsrModel
from pipeline.asr.text_pieces import FIRST_PIECE
from pipeline.audio.frame_grid import FrameGrid
from pipeline.config.files import load, load_all
from pipeline.features.extraction import MOST_SHARD_SECONDS
from pipeline.graph.disk_space import readable_bytes
from pipeline.runtime.shard_pool import SHARDS_IN_FLIGHT
from pipeline.training.checkpoint_store import KEPT
from pipeline.training.loading import AHEAD_OF_PROCESS, PROCESSES_FOR_GPU

TEXT = GUIDE.read_text(encoding="utf-8")
FRAMES_PER_SECOND = FrameGrid(400, 320, 16000).frames_per_second
HALF, SINGLE = 2, 4
COPIES = 3  # of a shard in a worker, a little above what was measured
DIM = 1024
TOOLS = {"aws", "docker", "kubectl", "openssl", "pip"}  # others', not in this environment
SHELL = {"eval", "export"}


def commands() -> list[list[str]]:
    """The words of every command in the guide's shell blocks."""
    blocks = re.findall(r"^```sh\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [words for words in (shlex.split(line, comments=True) for line in lines) if words]


def starting(*first: str) -> list[list[str]]:
    found = [words for words in commands() if tuple(words[: len(first)]) == first]
    assert found, first
    return [words[len(first) :] for words in found]


def test_every_command_is_of_a_known_tool():
    assert {words[0] for words in commands()} <= {*TOOLS, *SHELL, "python", "ray"}


@pytest.mark.parametrize("words", starting("python", "-m", "pipeline"), ids=" ".join)
def test_the_projects_commands_parse(words, monkeypatch):
    monkeypatch.chdir(ROOT)
    name, *arguments = words
    context = typer.main.get_command(app).commands[name].make_context(name, arguments)
    given = context.params
    assert load_all(given["configs"], [*(given["overrides"] or ()), f"storage={given['storage']}"])


@pytest.mark.parametrize("command", re.findall(r"python cluster/local\.py ([^)\n#]+)", TEXT))
def test_the_local_clusters_commands_parse(command):
    from importlib.util import module_from_spec, spec_from_file_location

    spec = spec_from_file_location("local_cluster", CLUSTER / "local.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    name, *arguments = command.split()
    command_line = typer.main.get_command(module.app).commands[name]
    assert command_line.make_context(name, arguments).info_name == name


@pytest.mark.parametrize("words", starting("ray"), ids=" ".join)
def test_rays_commands_parse(words):
    name, *arguments = words[: words.index(">")] if ">" in words else words
    assert ray_cli.commands[name].make_context(name, arguments).info_name == name


def test_files_that_are_named_are_there():
    named = re.findall(r"(?<![\w/.])(?:cluster|configs|kuberay|mlflow)/[\w./-]+\w", TEXT)
    links = re.findall(r"\]\(([\w./]+)\)", TEXT)
    for name in {*named, *links}:
        assert (ROOT / name).exists() or (CLUSTER / name).exists(), name


def test_objects_that_are_named_are_there():
    (job,) = set(re.findall(r"(?:rayjob |job/)([\w-]+)", TEXT))
    assert job == document("kuberay/rayjob.yaml", "RayJob")["metadata"]["name"]
    cluster = document("kuberay/raycluster.yaml", "RayCluster")["metadata"]["name"]
    assert f"service/{cluster}-head-svc" in TEXT  # as KubeRay names it
    assert f"get secret {cluster} " in TEXT


def test_every_setting_that_is_named_is_there():
    config = load(ROOT / "configs/librispeech100/dkm_full.yaml").model_dump()
    sections = "|".join(name for name, value in config.items() if isinstance(value, dict))
    named = re.findall(rf"`(?:--set )?({sections})\.([a-z_]+)", TEXT)
    assert named
    for section, key in named:
        assert key in config[section], f"{section}.{key}"


def bytes_a_second(num_layers: int, dim: int = DIM, frames: float = FRAMES_PER_SECOND) -> float:
    return num_layers * dim * HALF * frames


def example():
    return load(ROOT / "configs/librispeech100/dkm_full.yaml")


STORED = {
    "WavLM-large, all layers": bytes_a_second(25),
    "WavLM-large, six layers": bytes_a_second(6),
    "WavLM-large, all layers, `sample_frames_per_second: 5`": bytes_a_second(25, frames=5),
    "HuBERT-base or WavLM-base, all layers": bytes_a_second(13, 768),
    "units": HALF * FRAMES_PER_SECOND,
}


@pytest.mark.parametrize("name", STORED)
def test_bytes_of_features(name):
    (row,) = [line for line in TEXT.splitlines() if line.startswith(f"| {name} |")]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[2:] == [
        readable_bytes(STORED[name] * seconds) for seconds in (1, 3600, 100 * 3600)
    ]


def test_the_example_has_six_layers():
    assert len(example().features.layers) == 6
    assert example().features.shard_seconds is None  # so at most MOST_SHARD_SECONDS
    assert f"{MOST_SHARD_SECONDS:g} s" in TEXT


def test_memory_of_a_worker():
    for layers in (25, 6):
        held = SHARDS_IN_FLIGHT * COPIES * MOST_SHARD_SECONDS * bytes_a_second(layers)
        assert readable_bytes(held) in TEXT


def test_memory_of_what_is_read_ahead():
    step = example().training.batch_seconds * bytes_a_second(6) * SINGLE / HALF
    assert readable_bytes(step) in TEXT
    assert readable_bytes(PROCESSES_FOR_GPU * AHEAD_OF_PROCESS * step) in TEXT


def parameters() -> dict[str, int]:
    """The example's parameters, by part."""
    config = example()
    large = WavLMConfig(
        hidden_size=DIM,
        num_hidden_layers=24,
        num_attention_heads=16,
        intermediate_size=4096,
        feat_extract_norm="layer",
        do_stable_layer_norm=True,
    )
    units = range(FIRST_PIECE + config.asr.text.vocabulary_size)  # it only counts them
    with torch.device("meta"):
        ssl = WavLMModel(large)
        asr = AsrModel(config.asr, config.codebook.num_units, None, units)
    return {
        "ssl": sum(one.numel() for one in ssl.parameters()),
        "front_end": sum(one.numel() for one in ssl.feature_extractor.parameters()),
        "asr": sum(one.numel() for one in asr.parameters()),
        "codebook": config.codebook.num_units * DIM,
    }


def test_bytes_of_checkpoints():
    count, config = parameters(), example()
    frozen = count["asr"] + count["codebook"]
    finetuned = frozen + count["ssl"]
    rows = {"first phase": (frozen,), "second phase": (finetuned - count["front_end"],)}
    epochs = config.training.average_best
    for name, (trained,) in rows.items():
        (row,) = [line for line in TEXT.splitlines() if line.startswith(f"| {name}")]
        one = SINGLE * (finetuned + 2 * trained)
        expected = [
            f"{finetuned / 1e6:.0f} M",
            f"{trained / 1e6:.0f} M",
            readable_bytes(one),
            readable_bytes((KEPT + 1) * one),
            readable_bytes((KEPT + 1) * one + epochs * SINGLE * finetuned),
        ]
        assert [cell.strip() for cell in row.strip("|").split("|")][1:] == expected


def test_bytes_of_the_codebook():
    settings = example().codebook
    assert readable_bytes(settings.sample_frames * DIM * HALF) in TEXT
    shards = 100 * 3600 / MOST_SHARD_SECONDS
    assert readable_bytes(settings.coreset_frames * DIM * HALF * shards) in TEXT


def test_bytes_on_the_network():
    training, count = example().training, parameters()
    trained = sum(count.values()) - 2 * count["front_end"]
    assert f"{readable_bytes(200 * bytes_a_second(6))} a second" in TEXT
    assert readable_bytes(training.batch_seconds * bytes_a_second(6)) in TEXT
    assert readable_bytes(2 * SINGLE * trained / 2) in TEXT


def test_no_file_of_the_guide_is_of_another_machine():
    assert not re.search(r"/(?:root|work|tmp)/", TEXT)
    assert not [one for one in CLUSTER.rglob("*") if one.suffix == ".log"]
    assert Path(GUIDE).stat().st_size < 20_000
