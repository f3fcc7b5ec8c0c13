"""What the joint trainings of several files of tests read."""

import pytest
from joint_training import make_inputs


@pytest.fixture(scope="session")
def inputs(tmp_path_factory):
    return make_inputs(tmp_path_factory.mktemp("inputs"))
