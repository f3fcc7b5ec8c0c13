from typing import Annotated

from pipeline.config import Asr, Training
from pipeline.config.section import UNLESS_DEFAULT, Section, settings_of


class Inner(Section):
    old: int = 1
    new: Annotated[int, UNLESS_DEFAULT] = 2


class Outer(Section):
    inner: Inner = Inner()
    several: tuple[Inner, ...] = (Inner(),)
    none: tuple[Inner, ...] = ()
    means: int = 3


def test_a_later_key_counts_unless_it_has_its_default():
    assert settings_of(Outer(), {"means"}) == {
        "inner": {"old": 1},
        "several": [{"old": 1}],
        "none": [],
    }
    changed = Outer(inner=Inner(new=3), several=(Inner(), Inner(new=4)))
    assert settings_of(changed) == {
        "inner": {"old": 1, "new": 3},
        "several": [{"old": 1}, {"old": 1, "new": 4}],
        "none": [],
        "means": 3,
    }


def test_keys_of_training_that_came_later_change_digests_where_they_are_set():
    plain = settings_of(Training())
    assert not {"ema_decay", "patience"} & plain.keys()
    assert not {"schedule"} & plain["phases"][0].keys()
    later = {"ema_decay": 0.99, "patience": 3, "phases": [{"epochs": 8, "schedule": "noam"}]}
    settings = settings_of(Training.model_validate(later))
    assert {name: settings[name] for name in ("ema_decay", "patience")} == {
        "ema_decay": 0.99,
        "patience": 3,
    }
    assert settings["phases"] == [{**plain["phases"][0], "schedule": "noam"}]
    assert settings_of(Asr())["time_masking"] == {"masks": 2, "max_share": 0.05}
