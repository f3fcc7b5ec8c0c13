"""Settings that Ray Tune draws: within their domains, all different, the same for the same seed."""

import pytest

pytest.importorskip("ray")

from pipeline.config.space import read_space
from pipeline.runtime.draws import draw

TEXT = """
training.phases[].learning_rates.asr: {low: 1.0e-4, high: 1.0e-2, log: true}
asr.dropout: {low: 0.0, high: 0.5}
codebook.num_units: {low: 2, high: 4}
asr.dim: [64, 128]
"""


@pytest.fixture
def space(tmp_path):
    path = tmp_path / "space.yaml"
    path.write_text(TEXT)
    return read_space(path)


def plain(drawn):
    return [{key: node.plain() for key, node in settings.items()} for settings in drawn]


def test_each_setting_is_from_its_domain_and_knows_where_that_stands(space):
    drawn = draw(space, 200, seed=0)
    assert len(drawn) == 200
    rates, dropouts, units, dims = (
        [settings[key].value for settings in drawn] for key in space.domains
    )
    assert 1e-4 <= min(rates) < 2e-4
    assert 5e-3 < max(rates) <= 1e-2
    # Evenly by their logarithm: half lie below the geometric mean.
    assert 70 < sum(rate < 1e-3 for rate in rates) < 130
    assert all(rate == float(f"{rate:.3g}") for rate in rates)
    assert 0 <= min(dropouts) < 0.1
    assert 0.4 < max(dropouts) <= 0.5
    assert set(units) == {2, 3, 4}
    assert set(dims) == {64, 128}
    assert drawn[0]["asr.dim"].place.endswith("space.yaml:5")
    assert drawn[0]["asr.dropout"].place.endswith("space.yaml:3")


def test_more_draws_begin_with_the_same_ones_and_another_seed_with_others(space):
    assert plain(draw(space, 9, seed=1))[:4] == plain(draw(space, 4, seed=1))
    assert plain(draw(space, 4, seed=1)) != plain(draw(space, 4, seed=2))


def test_no_setting_comes_twice_and_a_small_space_is_drawn_completely(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text("asr.dim: [64, 128]\ncodebook.num_units: [2, 3, 4]\n")
    drawn = plain(draw(read_space(path), 20, seed=0))
    assert sorted(tuple(settings.values()) for settings in drawn) == [
        (dim, units) for dim in (64, 128) for units in (2, 3, 4)
    ]
    assert draw(read_space(path), 0, seed=0) == []
