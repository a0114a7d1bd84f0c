"""The run record is whole at any time, and says how the run ended."""

from __future__ import annotations

import json
import math
import signal
from pathlib import Path
from typing import Any

import pytest

from ift_lightning.errors import UserError
from ift_lightning.training.run_record import RunRecorder, describe_environment, read_run_record
from ift_lightning.types import RunRecord


def make_recorder(folder: Path, **options: Any) -> RunRecorder:
    record = RunRecord(name="n", seed=3, overrides=["a=b"], config_fingerprint="f")
    return RunRecorder(folder, record, **options)


def test_completed(tmp_path: Path) -> None:
    recorder = make_recorder(tmp_path / "new" / "folder")
    with recorder.running() as record:
        on_disk = read_run_record(recorder.path.parent)
        assert on_disk["status"] == "running"
        assert on_disk["started_at"]
        assert on_disk["finished_at"] is None
        record.metrics["val/loss"] = 1.5
    on_disk = read_run_record(recorder.path.parent)
    assert on_disk["status"] == "completed"
    assert on_disk["error"] is None
    assert on_disk["finished_at"] >= on_disk["started_at"]
    assert on_disk["metrics"] == {"val/loss": 1.5}
    assert (on_disk["schema"], on_disk["name"], on_disk["seed"]) == (1, "n", 3)
    assert [path.name for path in recorder.path.parent.iterdir()] == ["run.json"]


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (UserError("no rows here"), "failed", "no rows here"),
        (ZeroDivisionError("x"), "failed", "ZeroDivisionError('x')"),
        (MemoryError(), "failed", "MemoryError()"),
        (KeyboardInterrupt(), "interrupted", "KeyboardInterrupt()"),
        (SystemExit(1), "interrupted", "SystemExit(1)"),
    ],
)
def test_failed_or_interrupted(
    error: BaseException, status: str, text: str, tmp_path: Path
) -> None:
    recorder = make_recorder(tmp_path)
    with pytest.raises(type(error)), recorder.running():
        raise error
    on_disk = read_run_record(tmp_path)
    assert (on_disk["status"], on_disk["error"]) == (status, text)
    assert on_disk["finished_at"]


def test_sigterm_is_an_interruption(tmp_path: Path) -> None:
    from lightning.pytorch.utilities.exceptions import SIGTERMException

    recorder = make_recorder(tmp_path)
    with pytest.raises(SIGTERMException), recorder.running():
        raise SIGTERMException(signal.SIGTERM)
    assert read_run_record(tmp_path)["status"] == "interrupted"


def test_a_resumed_run_keeps_its_beginning_and_forgets_its_error(tmp_path: Path) -> None:
    recorder = make_recorder(tmp_path)
    recorder.record.started_at = "2020-01-01T00:00:00+00:00"
    with pytest.raises(KeyError), recorder.running():
        raise KeyError
    with recorder.running():
        assert read_run_record(tmp_path)["error"] is None
    assert read_run_record(tmp_path)["started_at"] == "2020-01-01T00:00:00+00:00"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_that_json_does_not_have_become_null(value: float, tmp_path: Path) -> None:
    recorder = make_recorder(tmp_path)
    recorder.record.metrics["val/loss"] = value
    recorder.record.audit["deep"] = {"list": [1.0, (value,)]}
    recorder.write()
    text = (tmp_path / "run.json").read_text()
    on_disk = json.loads(text, parse_constant=lambda name: pytest.fail(name))
    assert on_disk["metrics"] == {"val/loss": None}
    assert on_disk["audit"] == {"deep": {"list": [1.0, [None]]}}


def test_a_write_that_fails_leaves_the_old_record(tmp_path: Path) -> None:
    recorder = make_recorder(tmp_path)
    recorder.write()
    before = (tmp_path / "run.json").read_bytes()
    recorder.record.audit["x"] = object()
    with pytest.raises(TypeError):
        recorder.write()
    assert (tmp_path / "run.json").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


def test_other_ranks_write_nothing(tmp_path: Path) -> None:
    with make_recorder(tmp_path, enabled=False).running():
        pass
    assert list(tmp_path.iterdir()) == []


def test_reading_what_is_no_record(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no run folder: it has no run.json"):
        read_run_record(tmp_path)
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(UserError, match=r"run.json cannot be read"):
        read_run_record(tmp_path)


def test_environment() -> None:
    environment = describe_environment()
    assert set(environment) >= {
        "python",
        "packages",
        "platform",
        "hardware",
        "git_commit",
        "git_dirty",
        "sandbox_level",
    }
    assert {"torch", "transformers", "peft", "lightning"} <= set(environment["packages"])
    assert environment["hardware"]["memory_bytes"] > 1e8
    json.dumps(environment)
