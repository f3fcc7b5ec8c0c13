"""What the quantizers declare, and what becomes of a declaration of one's own."""

import pytest
import torch
from support import save_tiny_ssl, tiny_config

from pipeline.clustering.codebook import Codebook
from pipeline.config import Config
from pipeline.config.files import ConfigError, load
from pipeline.quantizer.iterated import IteratedKMeans

OWN = """
from pipeline.config.quantizer import Quantizer, QuantizerKind
from pipeline.config.section import Positive


class Settings(Quantizer):
    sharpness: Positive = 3.0


QUANTIZER = QuantizerKind(lambda settings, codebook: settings.sharpness, section=Settings)
"""


@pytest.fixture(scope="module")
def ssl(tmp_path_factory):
    return save_tiny_ssl(tmp_path_factory.mktemp("ssl"))


@pytest.fixture
def config_file(tmp_path, monkeypatch, ssl):
    """A config whose folder Python searches for modules."""
    monkeypatch.syspath_prepend(str(tmp_path))
    path = tmp_path / "own.yaml"
    path.write_text(f"corpus: {{kind: manifest, manifest: x}}\nssl: {{model: '{ssl}'}}")
    return path


def write_module(folder, package, source):
    (folder / package).mkdir()
    (folder / package / "quantizer.py").write_text(source)
    return f"quantizer.kind={package}.quantizer"


def codebook():
    return Codebook(torch.eye(4), torch.rand(20, 4), mean_squared_distance=0.5)


@pytest.mark.parametrize(
    ("kind", "has_units", "passes_gradient"),
    [
        ("none", False, True),
        ("kmeans", True, False),
        ("dkm", True, True),
        ("iterated_dkm", True, True),
    ],
)
def test_a_kind_says_whether_it_has_units_and_passes_gradients(
    ssl, kind, has_units, passes_gradient
):
    quantizer = tiny_config(ssl, quantizer={"kind": kind, "layer_weights": "fixed"}).quantizer
    assert quantizer.has_units is has_units
    assert quantizer.passes_gradient is passes_gradient


@pytest.mark.parametrize(
    ("kind", "learned", "centroids_learn", "sigma_learns"),
    [
        ("kmeans", True, False, False),
        ("dkm", False, True, False),
        ("dkm", True, True, True),
        ("iterated_dkm", True, True, True),
    ],
)
def test_what_learns_is_what_the_kind_and_sigma_say(
    ssl, kind, learned, centroids_learn, sigma_learns
):
    settings = {
        "kind": kind,
        "layer_weights": "fixed",
        "assignment": "argmax",
        "sigma": {"kind": "scaled", "value": 3.0, "learned": learned},
    }
    quantizer = tiny_config(ssl, quantizer=settings).quantizer.build(codebook())
    groups = quantizer.parameter_groups()
    assert [p.requires_grad for p in groups["centroids"]] == [centroids_learn]
    assert [p.requires_grad for p in groups["sigma"]] == [sigma_learns]
    assert {id(p) for group in groups.values() for p in group} == {
        id(p) for p in quantizer.parameters()
    }
    assert float(quantizer.sigma_squared.detach()) == pytest.approx(3.0 / 0.5)
    assert quantizer.assignment == ("nearest" if kind == "kmeans" else "argmax")


def test_the_iterated_quantizer_is_built_as_the_config_says(ssl):
    settings = {"kind": "iterated_dkm", "iteration": {"max_iterations": 3, "tolerance": 0.01}}
    quantizer = tiny_config(ssl, quantizer=settings).quantizer.build(codebook())
    assert isinstance(quantizer, IteratedKMeans)
    assert (quantizer.max_iterations, quantizer.tolerance) == (3, 0.01)
    assert quantizer.assignment == "sampled"


@pytest.mark.parametrize("kind", ["kmeans", "dkm", "iterated_dkm"])
@pytest.mark.parametrize(("distance", "sigma_squared"), [("squared", 4.0), ("euclidean", 2.0)])
def test_the_distance_is_that_of_the_config(ssl, kind, distance, sigma_squared):
    settings = {
        "kind": kind,
        "layer_weights": "fixed",
        "distance": distance,
        "sigma": {"kind": "scaled", "value": 1.0},
    }
    fitted = Codebook(torch.eye(4), torch.rand(20, 4), mean_squared_distance=0.25)
    quantizer = tiny_config(ssl, quantizer=settings).quantizer.build(fitted)
    assert quantizer.distance == distance
    assert float(quantizer.sigma_squared.detach()) == pytest.approx(sigma_squared)


def test_distances_are_squared_by_default(ssl):
    assert tiny_config(ssl).quantizer.settings()["distance"] == "squared"


def test_settings_without_units_are_those_of_the_layer_mix(ssl):
    settings = tiny_config(ssl, quantizer={"kind": "none"}).quantizer.settings()
    assert settings == {"kind": "none", "layer_weights": "learned", "initial_layer_mass": 0.8}
    assert "sigma" in tiny_config(ssl).quantizer.settings()


def test_a_module_of_ones_own_adds_keys_that_are_checked_and_kept(config_file):
    kind = write_module(config_file.parent, "own_keys", OWN)
    config = load(config_file, [kind, "quantizer.sharpness=5", "quantizer.tau_start=1"])
    assert config.quantizer.build(codebook()) == 5
    assert config.quantizer.settings()["sharpness"] == 5
    again = Config.model_validate(config.model_dump(mode="json"))
    assert again.quantizer == config.quantizer
    with pytest.raises(ConfigError, match=r"quantizer\.sharpness: .*greater than 0"):
        load(config_file, [kind, "quantizer.sharpness=0"])
    with pytest.raises(ConfigError, match=r"sharpnes: unknown key; did you mean 'sharpness'"):
        load(config_file, [kind, "quantizer.sharpnes=1"])


@pytest.mark.parametrize(
    ("package", "source", "message"),
    [
        ("gone", None, r"'gone\.quantizer' cannot be imported .*No module named 'gone'"),
        ("broken", "import nonesuch", r"'broken\.quantizer' cannot be imported .*nonesuch"),
        ("empty", "", r"'empty\.quantizer' defines no quantizer: it needs QUANTIZER = "),
    ],
)
def test_a_module_that_is_no_quantizer_gets_one_message(config_file, package, source, message):
    if source is None:
        kind = f"quantizer.kind={package}.quantizer"
    else:
        kind = write_module(config_file.parent, package, source)
    with pytest.raises(ConfigError, match=message):
        load(config_file, [kind])
