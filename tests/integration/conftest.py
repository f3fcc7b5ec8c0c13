"""One Ray for all integration tests of a session."""

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session")
def local_ray() -> Iterator[None]:
    ray = pytest.importorskip("ray")
    from pipeline.config import Cluster
    from pipeline.runtime.session import ray_session

    with ray_session(Cluster()):
        assert ray.is_initialized()
        yield
