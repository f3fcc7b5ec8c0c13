"""Reading ahead: the same batches in the same order, in a thread or in processes."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support import SAMPLE_RATE_HZ, tone_utterances

from pipeline.audio.decode import AudioError
from pipeline.config import Cluster
from pipeline.training.batches import Batch
from pipeline.training.inputs import AudioSource, Example
from pipeline.training.loading import Loader, LoaderLostError, Request, loader_processes

CPU = torch.device("cpu")
PATIENCE_SECONDS = 60


@pytest.fixture(scope="module")
def utterances(tmp_path_factory):
    return tone_utterances(tmp_path_factory.mktemp("audio"), "train", 12)


def loader_of(utterances, num_processes):
    examples = {"train": [Example(utterance, (1, 2)) for utterance in utterances], "valid": []}
    return Loader(AudioSource(SAMPLE_RATE_HZ, 1 << 20), examples, num_processes, CPU)


def requests_for(utterances):
    batches = [Batch((index, index + 1, index + 2)) for index in range(0, len(utterances), 3)]
    return [
        Request("train", tuple(batch.share(0, 2, micro, 2) for micro in range(2)))
        for batch in batches
    ]


def values(micros):
    return [
        (inputs.waveforms_BS.tolist(), inputs.lengths_B.tolist(), inputs.positions, counted)
        for inputs, counted in micros
    ]


def test_a_gpu_has_processes_and_a_cpu_a_thread_unless_the_config_says_otherwise():
    assert loader_processes(Cluster(), torch.device("cpu")) == 0
    assert loader_processes(Cluster(), torch.device("cuda")) > 0
    for device in ("cpu", "cuda"):
        assert loader_processes(Cluster(loader_processes=3), torch.device(device)) == 3


@pytest.mark.slow
def test_processes_read_what_a_thread_does_and_their_loss_is_an_error_with_a_cure(utterances):
    """In a thread, as Ray Train runs it: there torch hears of no child's death by a signal."""
    requests = requests_for(utterances)
    expected = [values(micros) for micros in loader_of(utterances, 0).read(requests)]
    gone = replace(utterances[5], utt_id="gone", audio="gone.flac")
    loader = loader_of([*utterances[:5], gone, *utterances[6:]], 2)

    def pids():
        return [worker.pid for worker in loader._loader._iterator._workers]

    def use():
        rest = [request for number, request in enumerate(requests) if number != 1]
        kept = [found for number, found in enumerate(expected) if number != 1]
        first = [values(micros) for micros in loader.read(rest)]
        before = pids()
        again = [values(micros) for micros in loader.read(list(reversed(rest)))]
        assert first == kept
        assert again == list(reversed(kept))
        assert pids() == before
        with pytest.raises(AudioError, match=r"gone\.flac") as failure:
            list(loader.read(requests[1:2]))
        assert "Traceback" not in str(failure.value)
        for pid in pids():
            os.kill(pid, signal.SIGKILL)
        with pytest.raises(LoaderLostError, match=r"cluster\.cache_gigabytes"):
            list(loader.read(rest))

    with ThreadPoolExecutor(1) as thread:
        thread.submit(use).result()


ORPHAN = """
import sys, time
import torch
from pipeline.audio.utterance import Utterance
from pipeline.training.batches import Batch
from pipeline.training.inputs import AudioSource, Example
from pipeline.training.loading import Loader, Request

one = Example(Utterance("one", "train", sys.argv[1], 0.0, 0.5, "speaker", ""), (1,))
requests = [Request("train", (Batch((i,)).share(0, 1, 0, 1),)) for i in range(8)]
loader = Loader(AudioSource(16000, 1 << 20), {"train": [one] * 8}, 1, torch.device("cpu"))
next(loader.read(requests))
print(loader._loader._iterator._workers[0].pid, flush=True)
time.sleep(600)
"""


def is_at_work(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks processes up as Linux does")
def test_processes_end_with_a_trainer_that_was_killed(utterances):
    with subprocess.Popen(
        [sys.executable, "-c", ORPHAN, utterances[0].audio],
        cwd=Path(__file__).resolve().parents[3],
        stdout=subprocess.PIPE,
        text=True,
    ) as trainer:
        pid = int(trainer.stdout.readline())
        assert is_at_work(pid)
        trainer.kill()
    deadline = time.monotonic() + PATIENCE_SECONDS
    while is_at_work(pid) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not is_at_work(pid)
