"""The members of a variant: one config for each seed."""

import pytest

from pipeline.config import Config
from pipeline.config.members import members, traits
from pipeline.corpus.adapters.synthetic import SyntheticCorpus


def config(**training) -> Config:
    return Config(
        variant="v",
        corpus=SyntheticCorpus(),
        ssl={"model": "some/model", "revision": "0" * 40},
        training=training,
    )


def test_a_config_with_one_seed_is_its_own_member():
    one = config(seeds=[7])
    assert members(one) == (one,)
    assert traits(one, one) == ()
    assert one.training.seed == 7
    assert config().training.seeds == (0,)


def test_each_seed_is_a_member_and_the_first_has_the_vocoder():
    several = config(seeds=[4, 0, 9])
    found = members(several)
    assert [member.training.seed for member in found] == [4, 0, 9]
    assert [traits(member, several) for member in found] == [("seed 4",), ("seed 0",), ("seed 9",)]
    assert [member.vocoder.enabled for member in found] == [True, False, False]
    as_before = {"training": several.training, "vocoder": several.vocoder}
    assert all(member.model_copy(update=as_before) == several for member in found)


def test_a_variant_of_several_seeds_has_no_seed_of_its_own():
    with pytest.raises(ValueError, match="too many values"):
        _ = config(seeds=[0, 1]).training.seed


@pytest.mark.parametrize(
    ("seeds", "message"),
    [
        ([], "seeds is empty: name at least one"),
        ([1, 2, 1], r"seeds \[1, 2, 1\] names a seed twice"),
    ],
)
def test_seeds_that_make_no_sense_are_refused(seeds, message):
    with pytest.raises(ValueError, match=message):
        config(seeds=seeds)
