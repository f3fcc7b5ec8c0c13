"""One Ray and one MLflow server for all integration tests of a session."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from mlflow_server import mlflow_server

# The nodes' own credentials for the local S3 server, since jobs carry none.
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_EC2_METADATA_DISABLED": "true",
}


@pytest.fixture(scope="session")
def local_ray() -> Iterator[None]:
    ray = pytest.importorskip("ray")
    from pipeline.config import Cluster
    from pipeline.runtime.session import ray_session

    with ExitStack() as stack:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in CREDENTIALS.items():
                patch.setenv(name, value)
            stack.enter_context(ray_session(Cluster()))
        assert ray.is_initialized()
        yield


@pytest.fixture(scope="session")
def mlflow_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with mlflow_server(tmp_path_factory.mktemp("mlflow") / "server") as address:
        yield address
