"""What every test shares: the slow oracles on the path, one thread a process, one group for Ray."""

import os
import sys
from pathlib import Path

import pytest
from hypothesis import settings

TESTS = Path(__file__).resolve().parent

# Before any test module is imported: `from reference.x import …`, and Ray and torch read their
# variables when they start. Tiny products gain nothing from a second thread, and a process has one
# core: pytest-xdist starts a process for each.
sys.path.insert(0, str(TESTS))
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ.setdefault("OMP_NUM_THREADS", "1")

# `make test-all` asks for the second with --hypothesis-profile.
settings.register_profile("short", max_examples=40, deadline=None)
settings.register_profile("soak", max_examples=1000, deadline=None)
settings.load_profile("short")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow tests start first; what starts Ray stays in one process, as does every other file."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
    for item in items:
        starts_ray = item.path.is_relative_to(TESTS / "integration")
        group = "ray" if starts_ray else item.path.relative_to(TESTS).as_posix()
        item.add_marker(pytest.mark.xdist_group(group))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of corpora that lies beside the repository, where there is one."""
    folder = TESTS.parent.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no shared corpora at {folder}")
    return folder
