"""Where the SSL model to load lies, if a training has fine-tuned it."""

from pathlib import Path

import pytest
from support import save_tiny_ssl, tiny_config

from pipeline.config import Ssl
from pipeline.features.fingerprint import ssl_fingerprint
from pipeline.features.ssl_folder import ssl_to_load
from pipeline.storage.artifacts import Artifact, ArtifactError

FINETUNED = {"phases": [{"epochs": 1, "ssl": "finetuned"}]}


@pytest.fixture
def pretrained(tmp_path):
    return save_tiny_ssl(tmp_path / "ssl")


def finetuned_by(pretrained: Path, **sections) -> Ssl:
    other = tiny_config(pretrained, training=FINETUNED, **sections)
    return Ssl(model=str(pretrained), finetuned_by=other.model_dump())


def test_a_pretrained_model_is_the_section_itself(pretrained):
    ssl = Ssl(model=str(pretrained))
    with ssl_to_load(ssl, None) as found:
        assert found is ssl


@pytest.mark.parametrize(
    ("sections", "saved_in"), [({"quantizer": {"kind": "none"}}, "features"), ({}, "tokenizer")]
)
def test_a_finetuned_model_lies_in_what_the_training_has_saved(
    pretrained, tmp_path, sections, saved_in
):
    trained = Artifact(str(tmp_path / "trained"))
    folder = save_tiny_ssl(Path(trained.path(f"{saved_in}/ssl")))
    with ssl_to_load(finetuned_by(pretrained, **sections), trained) as found:
        assert found == Ssl(model=str(folder))


def test_it_is_downloaded_from_an_object_store(pretrained):
    trained = Artifact("memory://finetuned/trained")
    for path in pretrained.iterdir():
        with trained.write(f"tokenizer/ssl/{path.name}") as file:
            file.write(path.read_bytes())
    with ssl_to_load(finetuned_by(pretrained), trained) as found:
        assert ssl_fingerprint(found) == ssl_fingerprint(Ssl(model=str(pretrained)))
    assert not Path(found.model).exists()


def test_a_training_that_lost_it_is_an_error_with_a_cure(pretrained, tmp_path):
    trained = Artifact(str(tmp_path / "trained"))
    with (
        pytest.raises(ArtifactError, match="tokenizer/ssl is missing: delete"),
        ssl_to_load(finetuned_by(pretrained), trained),
    ):
        pass
