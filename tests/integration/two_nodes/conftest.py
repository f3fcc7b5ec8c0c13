"""One cluster of two nodes for all tests of this folder, and one run on it that nothing disturbs."""

from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from cluster_runs import Surroundings, losses, scores, surroundings, tokens


@pytest.fixture(scope="package")
def there(mlflow_address: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Surroundings]:
    with surroundings(tmp_path_factory.mktemp("cluster"), mlflow_address) as made:
        yield made


@pytest.fixture(scope="package")
def undisturbed(there: Surroundings) -> SimpleNamespace:
    """What a run that nothing disturbed printed and stored."""
    storage = "s3://bucket/undisturbed"
    printed = there.run(storage)
    return SimpleNamespace(
        printed=printed, tokens=tokens(storage), losses=losses(storage), scores=scores(storage)
    )
