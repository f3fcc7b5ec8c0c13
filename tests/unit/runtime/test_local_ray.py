"""A local Ray that does not start: tried twice within time limits, then one message. Starts no Ray."""

import os
import subprocess
import sys
import textwrap

import pytest

pytest.importorskip("ray")

import ray

from pipeline.config import Cluster
from pipeline.errors import is_for_user
from pipeline.runtime import local_ray, session
from pipeline.runtime.environment import set_local_environment
from pipeline.runtime.local_ray import RayStartError, start_local_ray


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """As before a start, whatever Ray other tests have in this process; put back afterwards."""
    monkeypatch.setattr(session, "_is_running", lambda: False)
    monkeypatch.setattr(local_ray, "set_local_environment", lambda: None)
    monkeypatch.setattr(local_ray, "PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 2.0})
    for name in ("RAY_ADDRESS", "RAY_TMPDIR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def starts(monkeypatch):
    """Let `ray.init` do one of these after the other; collects its arguments."""
    calls: list[dict] = []

    def plan(*actions):
        coming = iter(actions)

        def init(**arguments):
            calls.append(arguments)
            next(coming)()

        monkeypatch.setattr(ray, "init", init)
        return calls

    return plan


def fail() -> None:
    raise TimeoutError("the raylet timed out\nand a hundred lines more")


def wait_for_a_child() -> None:
    """As Ray waits for its processes."""
    code = subprocess.run([sys.executable, "-c", "import time; time.sleep(300)"], check=False)
    raise RuntimeError(f"the raylet died: {code.returncode}")


def work() -> None:
    pass


def test_a_temporary_folder_too_long_for_sockets_is_refused_before_the_start(monkeypatch, starts):
    calls = starts(work)
    monkeypatch.setenv("RAY_TMPDIR", "/scratch/" + 31 * "x")
    with (
        pytest.raises(RayStartError, match=r"holds 107 bytes, .* of at most 39 bytes"),
        session.ray_session(Cluster()),
    ):
        pass
    assert calls == []
    monkeypatch.setenv("RAY_TMPDIR", "/scratch/" + 30 * "x")
    start_local_ray()
    assert len(calls) == 1


def test_a_start_that_fails_once_is_tried_again(starts):
    calls = starts(fail, work)
    with session.ray_session(Cluster()):
        assert len(calls) == 2
    assert calls[0] == calls[1]


def test_a_start_that_fails_twice_is_one_message(starts, monkeypatch):
    calls = starts(fail, fail, work)
    monkeypatch.setenv("TMPDIR", "/scratch")
    with pytest.raises(RayStartError) as caught:
        start_local_ray()
    assert len(calls) == 2
    assert is_for_user(caught.value)
    message = str(caught.value)
    assert "did not start on this machine (the raylet timed out). The load is " in message
    assert " GB of memory are free" in message
    assert "/scratch (8 of at most 39 bytes)" in message
    assert "\n" not in message


def test_a_start_that_waits_for_ever_is_ended_by_ending_what_it_waits_for(starts, monkeypatch):
    monkeypatch.setattr(local_ray, "LIMIT_SECONDS", (1.0, 1.0))  # the child has started
    bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
    try:
        starts(wait_for_a_child, wait_for_a_child)
        with pytest.raises(RayStartError, match="the raylet died: -9"):
            start_local_ray()
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_a_start_that_cannot_be_ended_ends_the_process_with_the_message():
    code = textwrap.dedent("""
        import threading, ray
        from pipeline.runtime import local_ray
        ray.init = lambda **_arguments: threading.Event().wait()
        local_ray.LIMIT_SECONDS, local_ray.GRACE_SECONDS = (0.2, 0.2), 0.2
        local_ray.start_local_ray()
    """)
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120
    )
    assert ended.returncode == 1
    assert ended.stderr.startswith("Ray did not start on this machine (it does not answer).")
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("modules", [{}, {"ray": ray}], ids=["before ray", "after ray"])
def test_workers_are_on_loopback_where_this_process_is(monkeypatch, modules):
    """Ray reads the variable when it is imported: set later, only workers would follow it."""
    monkeypatch.undo()
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    monkeypatch.setattr(os, "environ", kept)
    monkeypatch.setattr(sys, "modules", modules)
    set_local_environment()
    assert (kept.get("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER") == "0") == (not modules)


def test_commands_import_ray_only_within_the_session():
    """Ray reads at its import whether it stays on loopback."""
    code = textwrap.dedent("""
        import sys
        import pipeline.commands.run, pipeline.commands.tokenize_folder, pipeline.runtime.session
        assert "ray" not in sys.modules
    """)
    subprocess.run([sys.executable, "-c", code], check=True)
