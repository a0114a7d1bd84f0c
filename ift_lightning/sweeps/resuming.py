"""Decides which points of a sweep still have to run, and stands in finished ones for others."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from ift_lightning import assembly
from ift_lightning.config.schema import TrainConfig
from ift_lightning.errors import UserError
from ift_lightning.modeling.loading import tokenizer_fingerprint, weights_fingerprint
from ift_lightning.training.run_record import RunRecorder, read_run_record
from ift_lightning.types import RunRecord, RunStatus

SUPERSEDED = "superseded"
"""Folder below a sweep for runs that other settings, rows or weights have taken the place of."""


class Standing(Enum):
    """What is to be done with a point."""

    NEW = "new"  # nothing of it is there that could be used
    INTERRUPTED = "interrupted"  # go on from its last checkpoint
    FINISHED = "finished"


@dataclass(frozen=True)
class PointKey:
    """What decides a run's result; two runs with the same key are the same run.

    Args:
        config: Fingerprint of what is trained.
        evaluation: Fingerprint of how answers are made and scored.
        data: Fingerprint of the training rows.
        weights: Fingerprint of the base weights.
        val: Fingerprint of the validation rows, which choose the best checkpoint.
        tokenizer: Fingerprint of the tokenizer and its chat template.
        test: Fingerprint of the test rows.
        sandbox: Fingerprint of what generated programs may use.
    """

    config: str
    evaluation: str
    data: str
    weights: str
    val: str = ""
    tokenizer: str = ""
    test: str = ""
    sandbox: str = ""

    @staticmethod
    def of(config: TrainConfig) -> PointKey:
        """Return the key of a run that is still to be made; prepares its rows, if need be."""
        tokenizer = assembly.build_tokenizer(config)
        tokenizer_key = tokenizer_fingerprint(tokenizer)  # now: using it may change it
        data = assembly.prepare_data(config, tokenizer, Path(config.run_dir) / "rejected.jsonl")
        return PointKey(
            config=assembly.config_fingerprint(config),
            evaluation=assembly.evaluation_fingerprint(config),
            data=data.splits["train"].statistics.fingerprint,
            val=data.splits["val"].statistics.fingerprint,
            test=data.splits["test"].statistics.fingerprint,
            tokenizer=tokenizer_key,
            sandbox=assembly.sandbox_fingerprint(config),
            weights=weights_fingerprint(
                config.model.path, config.model.revision, Path(config.data.cache_dir).expanduser()
            ),
        )

    @staticmethod
    def recorded(record: dict[str, Any]) -> PointKey:
        """Return the key of a run that has a record; what it does not say is empty."""
        data = record.get("data") or {}
        splits = data.get("fingerprints") or {}
        return PointKey(
            config=str(record.get("config_fingerprint") or ""),
            evaluation=str(record.get("evaluation_fingerprint") or ""),
            data=str(data.get("fingerprint") or ""),
            weights=str((record.get("model") or {}).get("weights_fingerprint") or ""),
            val=str(splits.get("val") or ""),
            tokenizer=str(data.get("tokenizer_fingerprint") or ""),
            test=str(splits.get("test") or ""),
            sandbox=str(record.get("sandbox_fingerprint") or ""),
        )

    def is_result_of(self, wanted: PointKey) -> bool:
        """Whether a finished run with this key has the result that a point is to have.

        Older records lack the last four fingerprints; what they do not say counts as unchanged,
        since a study would otherwise be repeated for no reason but its age.
        """
        return all(
            getattr(self, name) == getattr(wanted, name)
            for name in ("config", "evaluation", "data", "weights")
        ) and self._agrees(wanted, ("val", "tokenizer", "test", "sandbox"))

    def can_go_on_to(self, wanted: PointKey) -> bool:
        """Whether checkpoints of this run belong to the point; it may not have got to say all."""
        return self._agrees(wanted, ("data", "weights", "val", "tokenizer"))

    def _agrees(self, wanted: PointKey, names: Sequence[str]) -> bool:
        return all(getattr(self, name) in ("", getattr(wanted, name)) for name in names)


def standing_of(folder: Path, config: TrainConfig) -> Standing:
    """Return what is to be done with the point whose folder this is.

    A run that ended otherwise than finished goes on from its last checkpoint; one that differs in
    its evaluation alone does, too, and then only has to be evaluated.
    """
    if not (folder / "run.json").is_file():
        return Standing.NEW
    try:
        record = read_run_record(folder)
    except UserError:  # not even JSON: nothing that could be gone on with
        return Standing.NEW
    wanted, found = PointKey.of(config), PointKey.recorded(record)
    if record.get("status") == RunStatus.COMPLETED and found.is_result_of(wanted):
        return Standing.FINISHED
    resumable = record.get("resume_fingerprint") == assembly.resume_fingerprint(config)
    if (
        found.can_go_on_to(wanted)
        and resumable
        and (folder / "checkpoints" / "last.ckpt").is_file()
    ):
        return Standing.INTERRUPTED
    return Standing.NEW


def set_aside(folder: Path) -> Path | None:
    """Move an unusable earlier run out of a point's folder; its ``.hydra`` is this run's already.

    Returns:
        Where the earlier run is now; None where there was none.
    """
    moved = [path for path in sorted(folder.iterdir()) if path.name != ".hydra"]
    if not (folder / "run.json").exists():
        return None
    number = 0
    while (target := folder.parent / SUPERSEDED / f"{folder.name}-{number}").exists():
        number += 1
    target.mkdir(parents=True)
    for path in moved:
        shutil.move(path, target / path.name)
    return target


def stand_in(
    folder: Path, config: TrainConfig, sources: Sequence[str], overrides: list[str]
) -> Path | None:
    """Fill a point's folder from a finished run of the same key.

    Checkpoints stay where they are; adapter, answers, curves and the record are copied.

    Args:
        folder: The point's folder.
        config: Its config.
        sources: Folders with runs below them.
        overrides: The point's own, which its record gets.

    Returns:
        The run that stands in; None where there is none.

    Raises:
        UserError: A source is no folder.
    """
    if not sources:
        return None
    wanted = PointKey.of(config)
    for source in sources:
        root = Path(source).expanduser()
        if not root.is_dir():
            raise UserError(f"sweep.reuse={source}: there is no such folder")
        for path in sorted(root.rglob("run.json")):
            if path.parent.resolve() == folder.resolve() or SUPERSEDED in path.parts:
                continue
            record = read_run_record(path.parent)
            is_finished = record.get("status") == RunStatus.COMPLETED
            if is_finished and PointKey.recorded(record).is_result_of(wanted):
                _copy_run(path.parent, folder)
                known = {item.name for item in dataclasses.fields(RunRecord)}
                copy = RunRecord(**{key: item for key, item in record.items() if key in known})
                copy.name, copy.overrides = config.name, overrides
                copy.reused_from = str(path.parent)
                RunRecorder(folder, copy).write()
                return path.parent
    return None


def _copy_run(source: Path, folder: Path) -> None:
    shutil.copytree(
        source,
        folder,
        ignore=shutil.ignore_patterns(".hydra", "checkpoints", "run.json", "output.log"),
        dirs_exist_ok=True,
    )
