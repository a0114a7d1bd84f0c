"""What the records of running points say, and the lines made of it."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from ift_lightning.sweeps.progress import Progress, clock, read_progress, seconds_left
from ift_lightning.sweeps.table import LiveTable, _that_fit


def write(folder: Path, **fields: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.json").write_text(json.dumps(fields), encoding="utf-8")
    return folder


def running(folder: Path, step: int, seconds: float = 10.0, **fields: Any) -> Path:
    return write(
        folder,
        status="running",
        data={"budget": {"num_steps": 40}},
        performance={"num_steps": step, "train_seconds": seconds},
        metrics={"train/loss": 0.5},
        **fields,
    )


def test_a_folder_without_a_record_waits(tmp_path: Path) -> None:
    assert read_progress(tmp_path / "a") == Progress("a")
    (tmp_path / "run.json").write_text("{", encoding="utf-8")  # being written
    assert read_progress(tmp_path).status == "waiting"


@pytest.mark.parametrize(("step", "status"), [(0, "preparing"), (10, "training"), (40, "scoring")])
def test_status_of_a_running_point(tmp_path: Path, step: int, status: str) -> None:
    assert read_progress(running(tmp_path / "a", step)).status == status


def test_time_left_is_that_of_the_steps_to_come(tmp_path: Path) -> None:
    point = read_progress(running(tmp_path / "a", 10, seconds=20.0))
    assert (point.step, point.num_steps, point.loss, point.seconds_left) == (10, 40, 0.5, 60.0)


def test_records_of_an_earlier_attempt_count_only_where_finished(tmp_path: Path) -> None:
    before = running(tmp_path / "a", 10)
    done = write(tmp_path / "b", status="completed", metrics={"test/pass@1": 0.5, "test/loss": 1})
    os.utime(before / "run.json", (1, 1))
    os.utime(done / "run.json", (1, 1))
    assert read_progress(before, since=time.time() - 60).status == "waiting"
    assert read_progress(done, since=time.time() - 60).score == ("test/pass@1", 0.5)


def test_failures_are_shown_by_their_first_line(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", status="failed", error="bad row\nin file x")
    assert read_progress(folder).error == "bad row"


def test_time_left_of_a_sweep() -> None:
    points = [
        Progress("a", "completed"),
        Progress("b", "training", step=20, num_steps=40),
        Progress("c"),
        Progress("d"),
    ]
    # 1.5 points of work took 30 s, and 2.5 are left.
    assert seconds_left(points, 30.0) == pytest.approx(50.0)
    assert seconds_left([Progress("c")], 30.0) is None


def test_clock() -> None:
    assert [clock(value) for value in (None, 5, 65, 3661)] == ["", "0:05", "1:05", "1:01:01"]
    assert [clock(value) for value in (-3, 59.7, 3599.6)] == ["0:00", "1:00", "1:00:00"]


def test_a_budget_of_time_says_how_long_a_point_will_take(tmp_path: Path) -> None:
    folder = write(
        tmp_path / "a",
        status="running",
        data={"budget": {"max_seconds": 30.0}},
        performance={"num_steps": 7, "train_seconds": 12.0},
    )
    assert read_progress(folder).seconds_left == 18.0


@pytest.mark.parametrize("num_lines", [0, 3, 6, 10, 40])
def test_a_table_fits_the_terminal(num_lines: int) -> None:
    points = [Progress(f"done {n}", "completed") for n in range(12)]
    points += [Progress("now", "training"), Progress("broken", "failed")]
    points += [Progress(f"next {n}") for n in range(12)]
    shown = [point.name for point in _that_fit(points, num_lines)]
    assert len(shown) == max(1, min(num_lines, len(points)))
    if num_lines >= 6:
        assert {"now", "broken", "done 11", "next 0"} <= set(shown)
    assert shown == [point.name for point in points if point.name in shown]


def test_lines_say_what_changed_and_nothing_twice(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    finished = write(tmp_path / "old", status="completed", metrics={"test/loss": 1.0})
    table = LiveTable([finished, tmp_path / "a", tmp_path / "b"], line_seconds=0.0)
    running(tmp_path / "a", 10)
    write(tmp_path / "b", status="failed", error="the reason")
    deadline = time.monotonic() + 20
    text = ""
    while time.monotonic() < deadline and text.count("points done") < 2:
        time.sleep(0.05)
        text += capfd.readouterr().out
    ended = table.close()
    assert [point.status for point in ended] == ["completed", "training", "failed"]
    assert text.count("a: training\n") == 1
    assert text.count("b: failed: the reason\n") == 1
    assert "old: " not in text
    assert "2 of 3 points done, about 0:" in text
    assert "a 10/40 loss 0.5000" in text
    assert table.close() == ended  # again


def test_what_stopped_a_point_before_it_trained_hides_no_later_record(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", status="completed", metrics={"test/loss": 1.0})
    (folder / "sweep_error.json").write_text('{"error": "no hub\\nat all"}', encoding="utf-8")
    assert read_progress(folder) == Progress("a", status="failed", error="no hub")
    os.utime(folder / "sweep_error.json", (1, 1))
    assert read_progress(folder).status == "completed"
