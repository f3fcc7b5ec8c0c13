"""What every test shares: the slow oracles on the path, no usage reports, data beside the repo."""

import os
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent

# Before any test module is imported: `from reference.x import …`, and Ray reads its variable
# when it starts.
sys.path.insert(0, str(TESTS))
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of corpora that lies beside the repository, where there is one."""
    folder = TESTS.parent.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no shared corpora at {folder}")
    return folder
