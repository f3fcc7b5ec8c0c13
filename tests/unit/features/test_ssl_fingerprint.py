import pytest

from pipeline.config import Ssl
from pipeline.features.fingerprint import ssl_fingerprint


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    return tmp_path


def test_hub_model_is_pinned_by_name_and_revision():
    assert ssl_fingerprint(Ssl(model="maker/model", revision="abc123")) == "maker/model@abc123"


def test_folder_is_pinned_by_config_and_weights_but_not_by_its_notes(folder):
    ssl = Ssl(model=str(folder))
    before = ssl_fingerprint(ssl)
    (folder / "README.md").write_text("how it was made")
    assert ssl_fingerprint(ssl) == before
    (folder / "model.safetensors").write_bytes(b"weightz")
    retrained = ssl_fingerprint(ssl)
    (folder / "config.json").write_text('{"a": 1}')
    assert len({before, retrained, ssl_fingerprint(ssl)}) == 3


def test_another_padding_makes_another_model(folder):
    plain, bare = (ssl_fingerprint(Ssl(model=str(folder), pad=pad)) for pad in ("window", "none"))
    assert bare == f"{plain} pad=none"


def test_folder_without_weights_is_rejected(folder):
    (folder / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="not a transformers checkpoint"):
        ssl_fingerprint(Ssl(model=str(folder)))
