"""What the joint training depends on, and what it does not."""

import pytest
from support import save_tiny_ssl, tiny_config

from tasks import train_vocoder
from tasks.train_joint import STAGE


@pytest.fixture(scope="module")
def ssl(tmp_path_factory):
    return save_tiny_ssl(tmp_path_factory.mktemp("ssl"))


@pytest.mark.parametrize(
    "sections",
    [
        {"cluster": {"training_workers": 7, "sharding": "fsdp", "loader_processes": 3}},
        {"training": {"gradient_checkpointing": True}},
        {"training": {"checkpoint_steps": 17, "log_steps": 17}},
        {"training": {"keep_checkpoints": True}},
    ],
)
def test_a_run_may_be_taken_up_with_other_means(ssl, sections):
    assert STAGE.settings(tiny_config(ssl, **sections)) == STAGE.settings(tiny_config(ssl))


@pytest.mark.parametrize(
    "sections",
    [
        {"training": {"accumulate": 2}},
        {"quantizer": {"assignment": "argmax"}},
        {"asr": {"dim": 32}},
    ],
)
def test_what_changes_a_result_changes_the_settings(ssl, sections):
    assert STAGE.settings(tiny_config(ssl, **sections)) != STAGE.settings(tiny_config(ssl))


def test_checkpoints_go_when_the_training_has_finished_unless_they_are_to_be_kept(ssl):
    kept = tiny_config(ssl, training={"keep_checkpoints": True})
    for stage in (STAGE, train_vocoder.STAGE):
        assert stage.temporary(tiny_config(ssl)) == ("checkpoints",)
        assert stage.temporary(kept) == ()
