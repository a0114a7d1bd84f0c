"""Ranks start together and end together, whatever becomes of one of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from ift_lightning.errors import RankError, StoppedBySignal, UserError
from ift_lightning.training.launcher import free_port, launch
from ift_lightning.training.ranks import Ranks

TESTS = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.timeout(60)


@pytest.fixture(autouse=True)
def _tests_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(TESTS), str(TESTS.parent)]))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)


def start(folder: Path, *what: str) -> Any:
    port = free_port()
    ranks = [Ranks(i, len(what), i, len(what), main_port=port) for i in range(len(what))]
    task = {"folder": str(folder), "ranks": list(what)}
    return launch(
        task,
        module="launcher_tasks",
        ranks=ranks,
        log_folder=folder / "ranks",
        grace_seconds=4.0,
    )


def is_alive(folder: Path, rank: int) -> bool:
    pid = int((folder / f"pid-{rank}").read_text())
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_returns_what_the_first_rank_returns(tmp_path: Path) -> None:
    threads = str(max(1, (os.cpu_count() or 1) // 2))
    assert start(tmp_path, "return", "return") == {"world": "2", "threads": threads}
    assert (tmp_path / "ranks" / "rank-1.log").read_text() == "rank 1 does return\n"
    assert not (tmp_path / "ranks" / "rank-0.log").exists()


def test_an_error_on_one_rank_ends_all_with_its_message(tmp_path: Path) -> None:
    since = time.monotonic()
    with pytest.raises(UserError, match="data.path=nowhere: there is no such file"):
        start(tmp_path, "hang", "user error")
    assert time.monotonic() - since < 30
    assert not is_alive(tmp_path, 0)


def test_a_defect_on_one_rank_is_shown_with_its_traceback(tmp_path: Path) -> None:
    with pytest.raises(RankError, match=r"(?s)rank 1 failed.*launcher_tasks.*ZeroDivisionError"):
        start(tmp_path, "hang", "bug")
    assert not is_alive(tmp_path, 0)


def test_a_rank_that_dies_is_named_and_not_the_one_that_noticed(tmp_path: Path) -> None:
    since = time.monotonic()
    with pytest.raises(RankError, match="rank 1 was killed by SIGKILL"):
        start(tmp_path, "echo", "die")
    assert time.monotonic() - since < 30


def test_the_cause_is_named_and_not_its_echo(tmp_path: Path) -> None:
    with pytest.raises(RankError, match=r"(?s)rank 1 failed.*ZeroDivisionError"):
        start(tmp_path, "echo", "bug")


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_signals_reach_all_ranks(sent: signal.Signals, tmp_path: Path) -> None:
    def send() -> None:
        while not all((tmp_path / f"ready-{rank}").exists() for rank in range(2)):
            time.sleep(0.05)
        os.kill(os.getpid(), sent)

    before = signal.getsignal(sent)
    threading.Thread(target=send, daemon=True).start()
    with pytest.raises(StoppedBySignal) as stopped:
        start(tmp_path, "wait for signal", "wait for signal")
    # An interrupt at the keyboard has the ranks save, as a request to end does.
    expected = signal.SIGTERM if sent == signal.SIGINT else sent
    assert stopped.value.signal_number == expected
    assert stopped.value.code == 128 + expected
    assert signal.getsignal(sent) == before


def test_ranks_do_not_outlive_the_process_that_started_them(tmp_path: Path) -> None:
    program = (
        "import sys; sys.path[:0] = sys.argv[2:]\n"
        "from pathlib import Path\n"
        "from ift_lightning.training.launcher import launch\n"
        "from ift_lightning.training.ranks import Ranks\n"
        "task = {'folder': sys.argv[1], 'ranks': ['hang', 'hang']}\n"
        "ranks = [Ranks(i, 2, i, 2) for i in range(2)]\n"
        "launch(task, module='launcher_tasks', ranks=ranks, log_folder=Path(sys.argv[1]))\n"
    )
    arguments = [sys.executable, "-c", program, str(tmp_path), str(TESTS), str(TESTS.parent)]
    parent = subprocess.Popen(arguments)
    try:
        deadline = time.monotonic() + 60
        while not all((tmp_path / f"pid-{rank}").exists() for rank in range(2)):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        time.sleep(0.2)
    finally:
        parent.kill()
        parent.wait()
    deadline = time.monotonic() + 20
    while any(is_alive(tmp_path, rank) for rank in range(2)):
        assert time.monotonic() < deadline, "a rank went on without its parent"
        time.sleep(0.1)


def test_ranks_that_stop_are_given_time(tmp_path: Path) -> None:
    # Longer than a failure would give them: 1.5 s.
    with pytest.raises(StoppedBySignal) as stopped:
        start(tmp_path, "stop late", "stop")
    assert stopped.value.signal_number == signal.SIGUSR2
    assert (tmp_path / "saved").exists()
