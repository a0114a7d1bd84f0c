"""States of jobs, as the queue shows them."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from submitit.slurm.slurm import SlurmJob

from ift_lightning.sweeps import job_states
from ift_lightning.sweeps.job_states import GONE, QueueWatcher, read_queue, watch_the_queue

SHOWN = """\
7_0|RUNNING
7_1|PENDING
8|CANCELLED
9|CONFIGURING
10|COMPLETED
"""


@pytest.fixture
def queue(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What squeue says, and how often it was asked."""
    told: dict[str, Any] = {"shown": SHOWN, "asked": 0}

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        assert command[0] == "squeue"
        told["asked"] += 1
        if told["shown"] is None:
            raise subprocess.CalledProcessError(1, command)
        return subprocess.CompletedProcess(command, 0, told["shown"], "")

    monkeypatch.setattr(job_states.subprocess, "run", run)
    return told


def test_the_queue_is_read() -> None:
    assert read_queue(SHOWN) == {
        "7_0": "RUNNING",
        "7_1": "PENDING",
        "8": "CANCELLED",
        "9": "CONFIGURING",
        "10": "COMPLETED",
    }
    assert read_queue("\n \nslurm_load_jobs error\n") == {}


@pytest.mark.parametrize(
    ("job", "done"),
    [("7_0", False), ("7_1", False), ("8", True), ("9", False), ("10", True)],
)
def test_a_job_is_done_once_it_has_ended(job: str, done: bool, queue: dict[str, Any]) -> None:
    assert QueueWatcher().is_done(job, mode="force") is done


@pytest.mark.parametrize("state", ["PREEMPTED", "REQUEUED", "COMPLETING", "SUSPENDED", "SIGNALING"])
def test_what_may_go_on_is_waited_for(state: str, queue: dict[str, Any]) -> None:
    queue["shown"] = f"8|{state}\n"
    assert not QueueWatcher().is_done("8", mode="force")


def test_a_job_that_the_queue_has_forgotten_has_ended(queue: dict[str, Any]) -> None:
    watcher = QueueWatcher()
    watcher.register_job("11")
    watcher.update()
    assert not watcher.is_done("11", mode="cache")
    watcher.update()
    assert watcher.is_done("11", mode="cache")
    assert watcher.get_state("11", mode="cache") == GONE


def test_a_job_that_is_seen_again_is_not_forgotten(queue: dict[str, Any]) -> None:
    watcher = QueueWatcher()
    watcher.register_job("11")
    for shown in (SHOWN, "11|PENDING\n", SHOWN):
        queue["shown"] = shown
        watcher.update()
    assert not watcher.is_done("11", mode="cache")


def test_nothing_has_ended_where_the_queue_does_not_answer(queue: dict[str, Any]) -> None:
    queue["shown"] = None
    watcher = QueueWatcher()
    watcher.register_job("11")
    for _ in range(3):
        watcher.update()
    assert queue["asked"] == 3
    assert not watcher.is_done("11", mode="cache")


def test_all_jobs_are_waited_for(queue: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    watcher = QueueWatcher(delay_s=0)
    for job in ("8", "7_0"):
        watcher.register_job(job)
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        watcher._last_status_check = float("-inf")
        if len(slept) == 3:
            queue["shown"] = "8|CANCELLED\n7_0|FAILED\n"

    monkeypatch.setattr(job_states.time, "sleep", sleep)
    watcher.wait_for_all()
    assert len(slept) == 3


def test_submitit_asks_it(
    tmp_path: Path, queue: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SlurmJob, "watcher", SlurmJob.watcher)
    watcher = watch_the_queue()
    job: SlurmJob[None] = SlurmJob(tmp_path, "8", tasks=[0, 1])
    assert job.done()
    assert job.state == "CANCELLED"
    assert watcher.num_calls >= 1
