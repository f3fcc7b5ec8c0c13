"""Leases on a disk and on S3: one run holds one, and another takes it over when nobody is there."""

import json
import subprocess
import sys
import threading
import uuid
from dataclasses import replace

import pytest
from faulty_s3 import FaultyS3, local_s3, use

from pipeline.storage import leases
from pipeline.storage.artifacts import Artifact
from pipeline.storage.leases import LEASES, Lease, Leases
from pipeline.storage.owner import Owner
from pipeline.storage.s3 import ObjectStore

HERE = Owner.this_process()
ELSEWHERE = Owner(7, "node-3", "another boot", "python -m pipeline run demo")
OUTPUT = "fit_codebook/0123456789abcdef"


class Clock:
    """One machine's monotonic clock."""

    def __init__(self):
        self.seconds = 1000.0

    def __call__(self):
        return self.seconds


@pytest.fixture(scope="module")
def server():
    with local_s3() as url:
        yield url


@pytest.fixture(params=["disk", "s3"])
def output(request, tmp_path):
    if request.param == "disk":
        return Artifact(f"{tmp_path}/runs/{OUTPUT}")
    request.getfixturevalue("server")
    return Artifact(f"s3://bucket/{uuid.uuid4().hex}/{OUTPUT}")


@pytest.fixture
def on_disk(tmp_path):
    return Artifact(f"{tmp_path}/runs/{OUTPUT}")


@pytest.fixture
def clock():
    return Clock()


def files(output: Artifact) -> list[str]:
    return Artifact(f"{output.uri.removesuffix(OUTPUT)}{LEASES}").names()


def record(output: Artifact, name: str) -> dict:
    return Artifact(f"{output.uri.removesuffix(OUTPUT)}{LEASES}").read_json(name)


def silence(lease: Lease, clock: Clock, seconds: float) -> bool:
    """Look at a lease every few seconds, for so long; whether it was taken."""
    end = clock.seconds + seconds
    while clock.seconds < end:
        clock.seconds += 5
        if lease.take():
            return True
    return False


def test_one_holds_it_until_it_is_released(output):
    first, second = Lease(output, HERE), Lease(output, HERE)
    assert first.take()
    assert first.take()
    assert not second.take()
    assert second.holder == str(HERE)
    [name] = files(output)
    assert name == "fit_codebook-0123456789abcdef.000001.json"
    assert record(output, name)["owner"]["pid"] == HERE.pid
    first.release()
    assert files(output) == []
    third = Lease(output, HERE)
    assert third.take()
    assert third.taken_from == ""


def test_another_output_has_another_lease(on_disk):
    storage = on_disk.uri.removesuffix(OUTPUT)
    assert Lease(on_disk, HERE).take()
    assert Lease(Artifact(f"{storage}fit_codebook/fedcba9876543210"), HERE).take()
    assert Lease(Artifact(f"{storage}fit/0123456789abcdef"), HERE).take()


def test_that_of_a_process_that_has_ended_on_this_machine_is_taken_at_once(output, clock):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert Lease(output, replace(HERE, pid=ended.pid)).take()
    second = Lease(output, HERE, clock)
    assert second.take()
    assert (
        second.taken_from
        == f"process {ended.pid} on this machine ({HERE.command}), which has ended"
    )
    assert files(output) == ["fit_codebook-0123456789abcdef.000002.json"]


def test_a_process_that_nobody_has_waited_for_has_ended(on_disk):
    with subprocess.Popen([sys.executable, "-c", "print()"], stdout=subprocess.PIPE) as zombie:
        zombie.stdout.read()
        owner = replace(HERE, pid=zombie.pid)
        while not owner.has_ended():
            pass
    assert not replace(owner, machine="another").has_ended()


def test_that_of_another_machine_is_taken_when_it_has_been_silent_for_a_minute(output, clock):
    assert Lease(output, ELSEWHERE).take()
    second = Lease(output, HERE, clock)
    assert not second.take()
    assert second.holder == "process 7 on node-3 (python -m pipeline run demo)"
    assert not silence(second, clock, 55)
    assert silence(second, clock, 10)
    assert second.taken_from == f"{ELSEWHERE}, of which nothing was heard for 60 s"


def test_heartbeats_keep_it(on_disk, clock):
    first, second = Lease(on_disk, ELSEWHERE), Lease(on_disk, HERE, clock)
    assert first.take()
    for _ in range(2):
        assert not silence(second, clock, 50)
        first.beat()
    assert second.claim.newest().record["heartbeats"] == 2


def test_a_pause_of_the_one_that_waits_is_no_silence_of_the_owner(on_disk, clock):
    assert Lease(on_disk, ELSEWHERE).take()
    second = Lease(on_disk, HERE, clock)
    assert not second.take()
    clock.seconds += 3600  # a laptop slept, and the owner's may just be waking up
    assert not second.take()
    assert not silence(second, clock, 55)
    assert silence(second, clock, 10)


def test_an_owner_that_comes_back_learns_that_it_has_lost_it(output, clock):
    first, second = Lease(output, ELSEWHERE, clock), Lease(output, HERE, clock)
    assert first.take()
    assert silence(second, clock, 70)
    assert not first.claim.stands()
    assert second.claim.stands()
    first.beat()
    assert (first.is_held, first.is_lost) == (False, True)
    first.release()
    second.beat()
    assert second.is_held
    clock.seconds += 5
    assert not first.take()
    assert first.holder == str(HERE)
    second.release()
    clock.seconds += 5
    assert first.take()
    assert not first.is_lost


def test_of_many_that_ask_at_once_one_gets_it(output, clock):
    assert Lease(output, ELSEWHERE).take()
    rivals = [Lease(output, HERE, clock) for _ in range(6)]
    assert not any(rival.take() for rival in rivals)
    barrier, taken = threading.Barrier(len(rivals)), set()

    def ask(rival: Lease) -> None:
        barrier.wait()
        if rival.take():
            taken.add(rival)

    for _ in range(12):
        clock.seconds += 5.5
        threads = [threading.Thread(target=ask, args=[rival]) for rival in rivals]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    [winner] = taken
    assert winner.is_held
    assert winner.claim.stands()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"owner": {"pid": "x"}, "token": 1}'])
def test_a_damaged_lease_is_another_runs_until_it_is_stale(on_disk, clock, content):
    folder = Artifact(f"{on_disk.uri.removesuffix(OUTPUT)}{LEASES}")
    with folder.write("fit_codebook-0123456789abcdef.000004.json") as file:
        file.write(content)
    lease = Lease(on_disk, HERE, clock)
    assert not lease.take()
    assert lease.holder == "another run"
    assert silence(lease, clock, 70)
    assert files(on_disk) == ["fit_codebook-0123456789abcdef.000005.json"]


def test_a_folder_that_somebody_has_deleted_is_made_again(on_disk):
    lease = Lease(on_disk, HERE)
    assert lease.take()
    Artifact(on_disk.uri.removesuffix(f"/{OUTPUT}")).delete(LEASES)
    lease.beat()
    assert lease.is_held
    assert len(files(on_disk)) == 1


def test_one_of_its_own_that_an_answer_was_lost_for_is_taken(on_disk, clock):
    lease = Lease(on_disk, HERE, clock)
    leases._create(lease.claim.folder, lease.claim.file(1), json.dumps(lease._record()).encode())
    assert lease.take()


@pytest.mark.parametrize("answer", ["lost_answer", "not_implemented"])
def test_a_store_whose_answers_are_lost_or_that_cannot_create_gives_it_to_one(
    server, monkeypatch, answer
):
    output = Artifact(f"s3://bucket/{uuid.uuid4().hex}/{OUTPUT}")
    failed = []

    def once(method, _path):
        if method != "PUT" or len(failed) == 1:
            return None
        failed.append(answer)
        return answer

    with FaultyS3(server, once) as proxy, monkeypatch.context() as patch:
        use(patch, proxy.url)
        first, second = Lease(output, HERE), Lease(output, HERE)
        assert first.take()
        assert not second.take()
        assert failed == [answer]
    ObjectStore.clear_instance_cache()


def test_the_leases_of_a_run_live_as_long_as_it_does(output, monkeypatch):
    with Leases(HERE, beat_seconds=0.02) as run:
        lease = run.of(output)
        assert run.of(output) is lease
        assert lease.take()
        while lease.claim.newest().record["heartbeats"] < 3:
            pass
        with monkeypatch.context() as patch:  # a heartbeat that fails is followed by the next
            patch.setattr(Artifact, "write_json", _fail)
            threading.Event().wait(0.1)
        heard = lease.claim.newest().record["heartbeats"]
        while lease.claim.newest().record["heartbeats"] <= heard:
            pass
    assert not lease.is_held
    assert files(output) == []


def _fail(*_arguments):
    raise OSError("no route to host")


def test_two_that_write_in_one_moment_both_ask_again(server, monkeypatch, clock):
    output = Artifact(f"s3://bucket/{uuid.uuid4().hex}/{OUTPUT}")
    lease = Lease(output, HERE, clock)
    plan = {"PUT": "conflict"}
    with (
        FaultyS3(server, lambda method, _: plan.get(method)) as proxy,
        monkeypatch.context() as patch,
    ):
        use(patch, proxy.url)
        assert not lease.take()
        assert lease.holder == "another run"
    ObjectStore.clear_instance_cache()
    assert lease.take()


def test_an_owner_is_named_by_process_machine_and_command_without_secrets(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["dkm", "run", "demo", "--set", "tracking.password=hunter2-x"])
    owner = Owner.this_process()
    assert str(owner) == (
        f"process {owner.pid} on this machine "
        "(python -m pipeline run demo --set tracking.password=***)"
    )
    job = json.dumps({"metadata": {"job_submission_id": "raysubmit_1"}})
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", job)
    owner = replace(Owner.this_process(), machine="another", host="node-1")
    assert str(owner) == f"job raysubmit_1 (process {owner.pid} on node-1)"
