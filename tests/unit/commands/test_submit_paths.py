"""What a job must find that a config names on this machine."""

from pathlib import Path

import pytest

from pipeline.commands.submit_paths import local_inputs
from pipeline.config import Config

KEY = "asr_evaluation.language_model.path"


@pytest.mark.parametrize(
    ("path", "found"),
    [("lm/words.arpa", {KEY: Path("lm/words.arpa")}), ("s3://bucket/words.arpa", {}), (None, {})],
)
def test_a_language_model_is_needed_too(path, found):
    config = Config.model_validate(
        {
            "variant": "kmeans",
            "corpus": {"kind": "synthetic"},
            "ssl": {"model": "some/model", "revision": "0" * 40},
            "asr_evaluation": {"language_model": {"path": path}},
        }
    )
    assert dict(local_inputs(config)) == found
