"""A killed training goes on from its last checkpoint as if nothing had happened."""

import random

import pytest
from joint_training import (
    COSTS,
    VARIANTS,
    InterruptedTrainingError,
    assert_same,
    interrupt,
    make_training,
    rows_without_costs,
)

from pipeline.log.read_log import read_history
from pipeline.log.stage_log import StageLog
from pipeline.storage.artifacts import Artifact
from pipeline.training.history import History

# What a resumed training must repeat: both phases, and micro-batches, of a resynthesis loss too.
RESUMED = {
    "dkm_layers": VARIANTS["dkm_layers"],
    "dkm_full": VARIANTS["dkm_full"],
    "accumulated": {
        **VARIANTS["phonological"],
        "training": {
            **VARIANTS["dkm_full"]["training"],
            "accumulate": 2,
            "checkpoint_steps": 3,
            "gradient_checkpointing": True,
        },
    },
}
RESUMED["layer_decay"] = {
    **VARIANTS["dkm_full"],
    "training": {
        **VARIANTS["dkm_full"]["training"],
        "phases": [{"epochs": 1}, {"epochs": 1, "ssl": "finetuned", "ssl_layer_decay": 0.5}],
        "ssl_dropout": 0.2,
    },
}
RESUMED["moving_average"] = {
    **VARIANTS["dkm_full"],
    "training": {
        **VARIANTS["dkm_full"]["training"],
        "phases": [
            {"epochs": 2, "schedule": "noam", "warmup_steps": 3},
            {"epochs": 1, "ssl": "finetuned"},
        ],
        "ema_decay": 0.8,
        "patience": 1,
    },
}


@pytest.fixture(scope="module")
def whole(inputs, tmp_path_factory):
    """Each of `RESUMED` trained in one go."""
    trainings = {}
    for variant, sections in RESUMED.items():
        output = Artifact(str(tmp_path_factory.mktemp(variant)))
        trainings[variant] = make_training(inputs, output, **sections)
        trainings[variant].run()
    return trainings


@pytest.mark.parametrize("variant", RESUMED)
@pytest.mark.parametrize("seed", range(3))
def test_resumed_training_equals_the_uninterrupted_one_bit_for_bit(
    inputs, tmp_path, whole, variant, seed
):
    expected = whole[variant]
    # A third each of all steps: the start, the change of phases, the end.
    third = expected.position.step / 3
    stop_at = random.Random(f"{variant}/{seed}").randrange(  # noqa: S311 - no secret
        int(seed * third), int((seed + 1) * third)
    )
    output = Artifact(str(tmp_path))
    interrupt(make_training(inputs, output, **RESUMED[variant]), stop_at)
    resumed = make_training(inputs, output, **RESUMED[variant])
    assert resumed.position.step <= stop_at
    resumed.run()

    found, wanted = resumed.store.latest(), expected.store.latest()
    for part in ("model", "optimizer", "best", "early_stop", "moving_average"):
        assert_same(found[part], wanted[part], part)
    assert_same(dict(resumed.model.state_dict()), dict(expected.model.state_dict()))
    assert rows_without_costs(resumed) == rows_without_costs(expected)
    assert resumed.history.of_epoch == expected.history.of_epoch
    steps = [row["step"] for row in resumed.history.rows if "train.loss" in row]
    assert steps == list(range(1, expected.position.step + 1))


def test_a_resumed_training_s_log_has_every_step_once(inputs, tmp_path):
    """What it had logged after its last checkpoint is logged again, and read once."""
    output = Artifact(str(tmp_path))

    def make():
        history = History(2, log=StageLog(output))
        return make_training(inputs, output, history=history, **RESUMED["dkm_layers"])

    interrupt(make(), 5)
    before = read_history(output)
    assert before
    resumed = make()
    resumed.run()
    resumed.history.flush()
    rows = read_history(output)
    assert rows[: len(before)] == before
    steps = [row["step"] for row in rows]
    assert steps == sorted({row["step"] for row in resumed.history.rows})
    assert all(row.keys() >= COSTS for row in rows if "train.loss" in row)


def test_the_best_epoch_is_kept_though_a_kill_came_before_its_checkpoint(inputs, tmp_path):
    """Weights of an epoch that the last checkpoint names are there, whatever came after it."""
    sections = {
        **VARIANTS["dkm_layers"],
        "training": {"average_best": 1, "checkpoint_steps": 100, "phases": [{"epochs": 3}]},
    }
    output = Artifact(str(tmp_path))
    training = make_training(inputs, output, **sections)
    save = training.store.save

    def killed(step, state):
        if state["progress"]["epoch"] == 2:
            raise InterruptedTrainingError
        save(step, state)

    training.store.save = killed
    with pytest.raises(InterruptedTrainingError):
        training.run()
    resumed = make_training(inputs, output, **sections)
    [(_, epoch, _)] = resumed.best.entries
    assert resumed.store.load_epoch(epoch)
    resumed.run()
    [(_, best, _)] = resumed.best.entries
    assert {name.split("/")[1] for name in output.names("checkpoints") if "epoch" in name} == {
        f"epoch-{best:04d}"
    }


def test_checkpoints_keep_the_last_two_and_a_torn_one_is_passed_over(inputs, tmp_path):
    output = Artifact(str(tmp_path))
    training = make_training(inputs, output, **VARIANTS["dkm_layers"])
    training.run()
    steps = training.store.steps()
    assert len(steps) == 2
    # What a kill in the middle of an upload leaves: tensors without the values written last.
    output.delete(f"checkpoints/step-{steps[-1]:08d}/values.json")
    assert training.store.steps() == steps[:1]
    assert training.store.latest()["progress"]["step"] == steps[0]
