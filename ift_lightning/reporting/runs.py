"""Reads run folders, one by one or all of a sweep, and names those that cannot be compared."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from ift_lightning.errors import UserError
from ift_lightning.reporting.predictions import (
    AFTER_FILE,
    BEFORE_FILE,
    Predictions,
    read_predictions,
)
from ift_lightning.types import RUN_RECORD_SCHEMA, RunStatus

_SECTIONS = ("model", "data", "metrics", "performance", "environment", "audit")


@dataclass(frozen=True)
class Run:
    """A finished run.

    Args:
        folder: Where it lies.
        record: Its ``run.json``.
        config: Its composed config (``.hydra/config.yaml``), unresolved; empty where it has none.
    """

    folder: Path
    record: dict[str, Any]
    config: dict[str, Any] = field(default_factory=dict)

    @property
    def seed(self) -> int:
        return int(self.record["seed"])

    @property
    def name(self) -> str:
        return str(self.record["name"])

    @property
    def metrics(self) -> dict[str, float]:
        """Scores that are numbers; one that diverged to NaN is null in the record."""
        items = self.record["metrics"].items()
        return {name: float(value) for name, value in items if value is not None}

    @property
    def overrides(self) -> dict[str, str]:
        """Overrides of the command line: key to value, without prefixes such as ``+``."""
        parts = [str(item).lstrip("+~").partition("=") for item in self.record["overrides"]]
        return {key: value for key, separator, value in parts if separator}

    @cached_property
    def predictions(self) -> Predictions | None:
        """Answers of the tuned model; None where none were generated."""
        return self._read(AFTER_FILE)

    @cached_property
    def before(self) -> Predictions | None:
        """Answers of the base model; None where none were generated."""
        return self._read(BEFORE_FILE)

    def _read(self, name: str) -> Predictions | None:
        path = self.folder / name
        return read_predictions(path) if path.is_file() else None


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A run that a report leaves out, with the reason."""

    folder: Path
    reason: str


@dataclass(frozen=True, slots=True)
class RunSet:
    """What was found in the folders that were asked for."""

    runs: list[Run]
    left_out: list[LeftOut]


def read_runs(folders: Sequence[Path]) -> RunSet:
    """Read run folders; one that did not finish, or cannot be read, is left out and named."""
    found = RunSet([], [])
    for folder in folders:
        try:
            found.runs.append(read_run(folder))
        except UserError as error:
            found.left_out.append(LeftOut(folder, str(error)))
    return found


def read_sweep(folder: Path) -> RunSet:
    """Read all runs below a folder, such as ``outputs/multirun/DATE/TIME``.

    A point of the sweep that has no ``run.json`` was not started, or failed before it could write
    one; it is named. Runs that a sweep set aside (``superseded``) are not read.

    Raises:
        UserError: There is no run below the folder.
    """
    if not folder.is_dir():
        raise UserError(f"sweep={folder}: there is no such folder")
    found_at = (path.parent for path in folder.rglob("run.json"))
    paths = sorted({path for path in found_at if "superseded" not in path.parts}, key=_numerically)
    if not paths:
        raise UserError(
            f"sweep={folder}: no run.json below it. Give the folder of a sweep, such as "
            "outputs/multirun/DATE/TIME"
        )
    found = read_runs(paths)
    for child in _points_of(folder):
        if child not in paths:
            found.left_out.append(LeftOut(child, "it has no run.json: it never started"))
    return found


def _points_of(folder: Path) -> list[Path]:
    """Return the folders that a sweep has, or was to have, for its points."""
    children = {path.parents[1] for path in folder.glob("*/.hydra/overrides.yaml")}
    children |= {path for path in folder.iterdir() if path.is_dir() and path.name.isdigit()}
    try:
        planned = json.loads((folder / "sweep.json").read_text(encoding="utf-8"))["points"] or []
        children |= {folder / str(point["folder"]) for point in planned}
    except (OSError, ValueError, KeyError, TypeError):
        pass  # made by another program, or by hand
    return sorted(children, key=_numerically)


def _numerically(path: Path) -> list[tuple[int, int | str]]:
    return [(0, int(part)) if part.isdigit() else (1, part) for part in path.parts]


def read_run(folder: Path) -> Run:
    """Read one run folder.

    Raises:
        UserError: It has no record, the record has another form, or the run did not finish.
    """
    path = folder / "run.json"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{folder} is no run folder: it has no run.json") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    check_record(record, path)
    status = record["status"]
    if status != RunStatus.COMPLETED:
        reason = f": {record['error']}" if record.get("error") else ""
        raise UserError(f"its status is '{status}'{reason}")
    return Run(folder, record, _read_config(folder))


def check_record(record: Any, path: Path) -> None:
    """Check that a run record has the form that reports read.

    Raises:
        UserError: It has not.
    """
    if not isinstance(record, dict):
        raise UserError(f"{path}: a run record has to be an object")
    schema = record.get("schema")
    if schema != RUN_RECORD_SCHEMA:
        raise UserError(
            f"{path}: it is of schema {schema!r}, and this version reads schema "
            f"{RUN_RECORD_SCHEMA}; use the version that wrote it"
        )
    for key, kinds in (("name", str), ("seed", int), ("status", str), ("overrides", list)):
        if not isinstance(record.get(key), kinds):
            raise UserError(f"{path}: field '{key}' is missing, or of a wrong type")
    for key in _SECTIONS:
        if not isinstance(record.get(key), dict):
            raise UserError(f"{path}: field '{key}' has to be an object")
    for name, value in record["metrics"].items():
        if value is not None and not isinstance(value, int | float):
            raise UserError(f"{path}: metric '{name}' is no number: {value!r}")


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / ".hydra" / "config.yaml"
    if not path.is_file():
        return {}
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    return config if isinstance(config, dict) else {}
