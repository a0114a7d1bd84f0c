"""Tasks of one job agree on what is left of a point."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from ift_lightning.sweeps.tasks import decided_by_first_task, is_first_task

JOB = {"SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "2"}
FIRST, SECOND = ({**JOB, "SLURM_PROCID": rank} for rank in ("0", "1"))
pytestmark = pytest.mark.timeout(60)


def never() -> str:
    raise AssertionError("only the first task decides")


def in_second_task(folder: Path, answers: list[str | None], **changes: str) -> threading.Thread:
    def wait() -> None:
        answers.append(decided_by_first_task(folder, never, {**SECOND, **changes}))

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


def test_the_first_task_decides_for_all(tmp_path: Path) -> None:
    answers: list[str | None] = []
    second = in_second_task(tmp_path, answers)
    second.join(0.5)
    assert second.is_alive()
    assert decided_by_first_task(tmp_path, lambda: "interrupted", FIRST) == "interrupted"
    second.join()
    assert answers == ["interrupted"]


def test_others_do_not_wait_where_the_first_one_fails(tmp_path: Path) -> None:
    answers: list[str | None] = []
    second = in_second_task(tmp_path, answers)

    def fail() -> str:
        raise ValueError("no rows")

    with pytest.raises(ValueError, match="no rows"):
        decided_by_first_task(tmp_path, fail, FIRST)
    second.join()
    assert answers == [None]


def test_a_job_that_is_requeued_decides_anew(tmp_path: Path) -> None:
    decided_by_first_task(tmp_path, lambda: "new", FIRST)
    answers: list[str | None] = []
    second = in_second_task(tmp_path, answers, SLURM_RESTART_COUNT="1")
    second.join(0.5)
    assert second.is_alive()
    again = {**FIRST, "SLURM_RESTART_COUNT": "1"}
    assert decided_by_first_task(tmp_path, lambda: "interrupted", again) == "interrupted"
    second.join()
    assert answers == ["interrupted"]


def test_one_process_decides_for_itself(tmp_path: Path) -> None:
    assert decided_by_first_task(tmp_path, lambda: "new", {}) == "new"
    assert list(tmp_path.iterdir()) == []
    assert is_first_task({})
    assert is_first_task(FIRST)
    assert not is_first_task(SECOND)
