"""Phases and quantizers that contradict each other are refused before any work."""

import pytest
from support import tiny_config

NEAREST = {"epochs": 1, "quantizer": "nearest"}


def test_a_phase_of_nearest_units_cannot_finetune(tmp_path):
    phases = [{**NEAREST, "ssl": "finetuned"}]
    with pytest.raises(ValueError, match="'nearest' passes no gradient, so ssl 'finetuned'"):
        tiny_config(tmp_path, training={"phases": phases})


def test_stored_features_are_not_those_of_an_ssl_model_that_an_earlier_phase_has_changed(tmp_path):
    frozen, finetuned = {"epochs": 1}, {"epochs": 1, "ssl": "finetuned"}
    for phases in ([finetuned, frozen], [frozen, finetuned, finetuned, {**frozen, **NEAREST}]):
        with pytest.raises(ValueError, match="cannot follow one with ssl 'finetuned'"):
            tiny_config(tmp_path, training={"phases": phases})
    assert tiny_config(tmp_path, training={"phases": [frozen, frozen, finetuned, finetuned]})


def test_without_units_there_is_no_nearest(tmp_path):
    with pytest.raises(ValueError, match=r"quantizer\.kind 'none' has no units"):
        tiny_config(tmp_path, quantizer={"kind": "none"}, training={"phases": [NEAREST]})
    assert tiny_config(tmp_path, training={"phases": [NEAREST]})


def test_a_front_end_that_is_trained_is_not_remembered(tmp_path):
    keys = {"train_front_end": True, "remember_front_end": True}
    with pytest.raises(ValueError, match="which train_front_end changes: set one of them to false"):
        tiny_config(tmp_path, training=keys)
