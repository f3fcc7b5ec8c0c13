"""What every test shares: the slow oracles on the path, one thread a process, groups for Ray."""

import os
import sys
from pathlib import Path

import pytest
from hypothesis import settings
from xdist.scheduler import LoadFileScheduling

TESTS = Path(__file__).resolve().parent

# Before any test module is imported: `from reference.x import …`, and Ray and torch read their
# variables when they start. Tiny products gain nothing from a second thread, and the processes of
# pytest-xdist share the cores.
sys.path.insert(0, str(TESTS))
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"  # seven processes that nobody needs
os.environ.setdefault("OMP_NUM_THREADS", "1")
if not Path("/dev/nvidiactl").exists():  # Triton reads it when it is imported: by transformers, say
    os.environ["TRITON_INTERPRET"] = "1"

# `make test-all` asks for the second with --hypothesis-profile.
settings.register_profile("short", max_examples=40, deadline=None)
settings.register_profile("soak", max_examples=1000, deadline=None)
settings.load_profile("short")


class GroupsOfRay(LoadFileScheduling):
    """The tests of a file run in one process of pytest-xdist.

    All that need the two nodes share one, and so do all others that start Ray.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        for folder in ("tests/integration/two_nodes/", "tests/integration/"):
            if file.startswith(folder):
                return folder
        return file


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> GroupsOfRay:
    config.option.loadscopereorder = False  # the order is ours, below
    return GroupsOfRay(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start the slow tests first, so that no core waits for them at the end."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of corpora that lies beside the repository, where there is one."""
    folder = TESTS.parent.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no shared corpora at {folder}")
    return folder
