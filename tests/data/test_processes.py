"""Chunks through processes: order, and what ends them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ift_lightning.data.processes import map_chunks

# Two processes that write their ids down; one works until it may end, the other has no work left.
PROGRAM = """
import os, time
from pathlib import Path
from ift_lightning.data.processes import map_chunks

def work(chunk):
    Path("ids", str(os.getpid())).touch()
    while chunk[0] == 0 and not Path("end").exists():
        time.sleep(0.05)
    return chunk

if __name__ == "__main__":
    for chunk in map_chunks(work, range(8), num_workers=2, chunk_size=2):
        print(chunk, flush=True)
"""


def test_chunks_keep_their_order() -> None:
    assert list(map_chunks(sum, range(10), num_workers=1, chunk_size=4)) == [6, 22, 17]
    assert list(map_chunks(sum, [], num_workers=1)) == []


def is_running(process_id: int) -> bool:
    try:
        state = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def wait_until(condition: object, seconds: float = 60.0) -> bool:
    assert callable(condition)
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def started(folder: Path) -> tuple[subprocess.Popen[str], list[int]]:
    """Return a process and the ids of the two that it has started."""
    (folder / "program.py").write_text(PROGRAM)
    (folder / "ids").mkdir()
    parent = subprocess.Popen(
        [sys.executable, "program.py"],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509
    )
    assert wait_until(lambda: len(list((folder / "ids").iterdir())) == 2), parent.poll()
    return parent, [int(path.name) for path in (folder / "ids").iterdir()]


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_processes_end_with_the_one_that_started_them(how: int, tmp_path: Path) -> None:
    parent, workers = started(tmp_path)
    try:
        parent.send_signal(how)
        parent.wait(30)
        assert wait_until(lambda: not any(map(is_running, workers)), 30)
    finally:
        for process_id in filter(is_running, workers):
            os.kill(process_id, signal.SIGKILL)


@pytest.mark.slow
def test_ctrl_c_is_answered_once(tmp_path: Path) -> None:
    parent, workers = started(tmp_path)
    time.sleep(0.5)  # until the other process waits for work
    os.killpg(parent.pid, signal.SIGINT)  # a terminal sends it to the whole group
    (tmp_path / "end").touch()
    _, errors = parent.communicate(timeout=60)
    assert errors.count("KeyboardInterrupt") == 1, errors
    assert errors.count("Traceback") == 1, errors
    assert not any(map(is_running, workers))
