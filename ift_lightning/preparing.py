"""Carries out ``prepare``: from its config to the data tool that it names."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ift_lightning.config.prepare_schema import (
    DrillsTaskConfig,
    PrepareConfig,
    Side,
    SplitTaskConfig,
    StripTaskConfig,
)
from ift_lightning.data.record_sources import FileSource
from ift_lightning.data.row_tools import RowRun, RowTool, default_workers, finish
from ift_lightning.data.tool_files import check_output, reports_beside
from ift_lightning.errors import UserError, suggest


def prepare(config: PrepareConfig) -> dict[str, Any]:
    """Run the data tool of a config, print what it did, and return its report.

    Raises:
        UserError: Something that was given cannot be used.
    """
    name = config.task.name
    if name not in _TASKS:
        raise UserError(f"task={name}: {suggest(name, _TASKS)}")
    return _TASKS[name](config)


def _workers(config: PrepareConfig) -> int:
    if config.workers is not None and config.workers < 1:
        raise UserError(f"workers={config.workers} has to be at least 1")
    return config.workers or default_workers()


def _input(config: PrepareConfig) -> Path:
    given = config.input or config.data.path
    if not given:
        raise UserError(
            f"task={config.task.name} needs rows: give a file or a folder with input=PATH"
        )
    return Path(given).expanduser()


def _output(config: PrepareConfig, *, is_folder: bool) -> Path:
    what = "a folder" if is_folder else "a file that ends in .jsonl"
    if not config.output:
        raise UserError(f"task={config.task.name} needs a place to write to: output=PATH, {what}")
    path = Path(config.output).expanduser()
    if is_folder and (path.is_file() or path.suffix in (".jsonl", ".json")):
        raise UserError(
            f"output={path} has to be {what}: task={config.task.name} writes several files"
        )
    if not is_folder and path.suffix != ".jsonl":
        raise UserError(f"output={path} has to be {what}")
    return path


def _source(config: PrepareConfig, path: Path) -> FileSource:
    return FileSource(path, form=config.form, fields=config.fields)


def _split(config: PrepareConfig) -> dict[str, Any]:
    from ift_lightning.data.splitting import SplitOptions, split_outputs, split_rows

    task, path = config.task, _input(config)
    assert isinstance(task, SplitTaskConfig)
    folder = _output(config, is_folder=True)
    check_output(path, split_outputs(folder), overwrite=config.overwrite)
    report = split_rows(
        _source(config, path),
        folder,
        SplitOptions(
            test_ratio=task.test_ratio,
            stratify=task.stratify,
            seed=config.seed,
            single_to_test=task.single is Side.test,
            near_duplicates=task.near_duplicates.value,
        ),
        form=config.form,
        stratify_is_asked=task.stratify not in (None, "subtype"),
        num_workers=_workers(config),
        progress_bar=config.progress_bar,
    )
    print(
        f"{report['num_train']:,} rows for training and {report['num_test']:,} for the test, of "
        f"{len(report['strata']):,} strata; {report['num_near_duplicates']:,} near-duplicates stay "
        "with their like"
    )
    if report["single"]:
        names = ", ".join(report["single"])
        print(f"cannot be divided, all in {task.single.value}.jsonl: {names} (see single=)")
    if report["without_test"]:
        print(f"without a test row: {', '.join(report['without_test'])}")
    _print_rejected(report)
    print(f"written to {folder}")
    return report


def _change_rows(
    config: PrepareConfig, tool: RowTool, version: int, options: dict[str, Any]
) -> dict[str, Any]:
    """Run a tool over the rows of ``input``, into the JSONL file ``output``."""
    path, output = _input(config), _output(config, is_folder=False)
    check_output(path, [output], overwrite=config.overwrite)
    source = _source(config, path)
    facts = {
        "task": config.task.name,
        "version": version,
        "output": output.name,
        "options": options,
    }
    report_path, rejected_path = reports_beside(output)
    run = RowRun(
        output.with_name(f".{output.name}.partial"),
        [config.task.name, version, source.fingerprint, options],
    )
    run.run(
        source,
        tool,
        num_workers=_workers(config),
        progress_bar=config.progress_bar,
        title=config.task.name,
    )
    report = finish(run, output, rejected_path, report_path, facts)
    if run.num_resumed:
        print(f"{run.num_resumed:,} rows were done already by a run that was stopped")
    print(
        f"{report['num_changed']:,} of {report['num_rows']:,} rows changed, "
        f"{report['num_unchanged']:,} did not; written to {output}, report in {report_path}"
    )
    _print_rejected(report, rejected_path.name)
    return report


def _reverse(config: PrepareConfig) -> dict[str, Any]:
    from ift_lightning.data.record_tools import ReverseTool

    return _change_rows(config, ReverseTool(), 1, {})


def _strip_comments(config: PrepareConfig) -> dict[str, Any]:
    from ift_lightning.data.comments import STRIP_VERSION, StripOptions, StripStatus
    from ift_lightning.data.record_tools import StripTool

    task = config.task
    assert isinstance(task, StripTaskConfig)
    options = {
        "strip_docstrings": task.strip_docstrings,
        "guess_language": task.guess_language,
    }
    report = _change_rows(config, StripTool(StripOptions(**options)), STRIP_VERSION, options)
    for status in StripStatus:
        count = report["counts"].get(f"row:{status}", 0)
        if count and status not in (StripStatus.CHANGED, StripStatus.UNCHANGED):
            print(f"  left as they were, {status.replace('_', ' ')}: {count:,}")
    return report


def _print_rejected(report: dict[str, Any], name: str = "rejected.jsonl") -> None:
    if report["num_rejected"]:
        reasons = "; ".join(f"{count:,}: {why}" for why, count in report["rejected"].items())
        print(f"rows left out, see {name}: {report['num_rejected']:,} ({reasons})")


def _drills(config: PrepareConfig) -> dict[str, Any]:
    from ift_lightning.data.drill_files import drill_outputs, write_drills

    task = config.task
    assert isinstance(task, DrillsTaskConfig)
    folder = _output(config, is_folder=True)
    sizes = {"train": task.num_train, "val": task.num_val, "test": task.num_test}
    check_output(None, drill_outputs(folder, sizes), overwrite=config.overwrite)
    report = write_drills(
        folder,
        task.kind.value,
        sizes,
        seed=config.seed,
        progress_bar=config.progress_bar,
    )
    numbers = ", ".join(f"{count:,} {split}" for split, count in report["splits"].items())
    print(f"{report['version']}: {numbers} rows, written to {folder}")
    return report


def _generate_cot(config: PrepareConfig) -> dict[str, Any]:
    path, output = _input(config), _output(config, is_folder=False)
    check_output(path, [output], overwrite=config.overwrite)
    from ift_lightning.cot_generation import run_generate_cot

    return run_generate_cot(dataclasses.replace(config, input=str(path), output=str(output)))


def _audit(config: PrepareConfig) -> dict[str, Any]:
    if config.output:
        folder = _output(config, is_folder=True)
        source = Path(config.input).expanduser() if config.input else None
        check_output(source, [folder / "report.json"], overwrite=config.overwrite)
    from ift_lightning.auditing import audit

    return audit(config, num_workers=_workers(config))


_TASKS: dict[str, Callable[[PrepareConfig], dict[str, Any]]] = {
    "split": _split,
    "drills": _drills,
    "strip_comments": _strip_comments,
    "generate_cot": _generate_cot,
    "reverse": _reverse,
    "audit": _audit,
}
