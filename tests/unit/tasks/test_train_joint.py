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


def test_the_layer_where_learned_weights_begin_is_in_the_settings_where_no_codebook_is_read(ssl):
    of_layer = {}
    for layer in (0, 1, 2):
        continuous = {"quantizer": {"kind": "none"}, "features": {"layers": [0, 1, 2]}}
        config = tiny_config(ssl, **continuous, codebook={"layer": layer})
        of_layer[layer] = STAGE.settings(config)
        assert not any(each.stage == "fit_codebook" for each in STAGE.inputs(config, ""))
    assert of_layer[0] != of_layer[1] != of_layer[2] != of_layer[0]
    # As it was before the layer counted: most outputs that are stored begin there.
    assert "initial_layer" not in of_layer[2]


def test_checkpoints_go_when_the_training_has_finished_unless_they_are_to_be_kept(ssl):
    kept = tiny_config(ssl, training={"keep_checkpoints": True})
    for stage in (STAGE, train_vocoder.STAGE):
        assert stage.temporary(tiny_config(ssl)) == ("checkpoints",)
        assert stage.temporary(kept) == ()
