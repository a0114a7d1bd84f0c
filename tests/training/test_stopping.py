"""What signals do, in training and outside of it."""

from __future__ import annotations

import os
import signal
import subprocess
from typing import Any

import pytest

from ift_lightning.errors import StoppedBySignal
from ift_lightning.training.callbacks import stopping
from ift_lightning.training.callbacks.stopping import SIGNALS, StopRequests, requeue


@pytest.mark.parametrize("number", SIGNALS)
def test_outside_of_training_a_run_stops_at_once(number: int) -> None:
    before = signal.getsignal(number)
    with StopRequests() as requests:
        with pytest.raises(StoppedBySignal) as stopped:
            os.kill(os.getpid(), number)
        assert requests.received == number
    assert stopped.value.code == 128 + number
    assert signal.getsignal(number) == before


@pytest.mark.parametrize("number", SIGNALS)
def test_in_training_a_signal_is_noted(number: int) -> None:
    with StopRequests() as requests:
        requests.is_training = True
        os.kill(os.getpid(), number)
        assert requests.agreed() == number


def test_a_run_that_leaves_is_not_stopped_again() -> None:
    with StopRequests() as requests:
        requests.leave()
        os.kill(os.getpid(), signal.SIGTERM)
        assert requests.received is None


def test_a_job_is_said_to_go_back_before_it_does(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[list[str]] = []

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[bytes]:
        assert "job 7_1 goes back into the queue" in capsys.readouterr().err
        asked.append(command)
        return subprocess.CompletedProcess(command, 1)

    monkeypatch.setattr(stopping.subprocess, "run", run)
    job = {"SLURM_JOB_ID": "9", "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "1"}
    assert not requeue(signal.SIGUSR2, job)
    assert asked == [["scontrol", "requeue", "7_1"]]
    assert "could not be put back" in capsys.readouterr().err
    assert not requeue(signal.SIGTERM, job)
    assert not requeue(signal.SIGUSR1, {})
    assert len(asked) == 1
