"""``convert_and_split``: rows of any form into converted_data.jsonl, train.jsonl and test.jsonl."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ift_lightning.data.adapters import detect_form
from ift_lightning.data.normalized_text import answer_text, request_text, text_key
from ift_lightning.data.preparation import RecordSource
from ift_lightning.data.row_tools import RowRun, ToolRow
from ift_lightning.data.stratified import Division, divide
from ift_lightning.data.tool_files import reports_beside, whole_file, write_json
from ift_lightning.errors import UserError, suggest
from ift_lightning.types import InstructionRecord, RawRow

CONVERTED, TRAIN, TEST = "converted_data.jsonl", "train.jsonl", "test.jsonl"
NO_STRATUM = "(none)"
_SPLIT_VERSION = 1
_TEXTS = ("request", "row", "none")


@dataclass(frozen=True)
class SplitOptions:
    """How rows are divided.

    Args:
        test_ratio: Share of the test rows of every stratum.
        stratify: Field of the row, with dots into nested objects; None for no strata.
        seed: Another seed, another draw.
        single_to_test: Where rows go whose stratum cannot be divided.
        near_duplicates: What has to be the same for rows to stay together: "request", "row", or
            "none" for rows that are divided one by one.
    """

    test_ratio: float = 0.2
    stratify: str | None = "subtype"
    seed: int = 0
    single_to_test: bool = False
    near_duplicates: str = "request"


@dataclass(frozen=True)
class SplitTool:
    """Converts a row, and notes its stratum and what tells near-duplicates.

    Raw defect rows become the chat rows of the defect study; rows of every other form stay as
    they are, and get an ``id`` where they have none.
    """

    form: str
    options: SplitOptions

    def __call__(self, raw: RawRow, record: InstructionRecord) -> ToolRow:
        form = detect_form(raw.values) if self.form == "auto" else self.form
        if form == "defect_raw":
            values = _defect_chat(raw.values, record)
        elif self.form == "record" or "id" in raw.values or form == "defect_chat":
            values = dict(raw.values)
        else:
            values = {"id": record.id, **raw.values}
        stratum = NO_STRATUM
        if self.options.stratify:
            found = _field(self.options.stratify, raw.values, record)
            stratum = NO_STRATUM if found is None else found
        counts = Counter({f"stratum:{stratum}": 1})
        group = record.id
        if self.options.near_duplicates != "none":
            text = request_text(record)
            if self.options.near_duplicates == "row":
                text += "\n" + answer_text(record)
            group = text_key(text).hex()
        row = {"stratum": stratum, "group": group, "row": values}
        return ToolRow(row, values != raw.values, counts)


def _defect_chat(values: Mapping[str, Any], record: InstructionRecord) -> dict[str, Any]:
    row: dict[str, Any] = {"id": str(values["id"])} if values.get("id") not in (None, "") else {}
    text = [asdict(message) for message in record.messages]
    return {**row, "subtype": record.subtype, "text": text}


def _field(path: str, values: Mapping[str, Any], record: InstructionRecord) -> str | None:
    """Return a field of the row as text: of the record where it has it, or of the source."""
    own = getattr(record, path, None)
    if isinstance(own, str) and own:
        return own
    found: Any = values
    for part in path.split("."):
        if isinstance(found, list) and part.isdecimal() and int(part) < len(found):
            found = found[int(part)]
        elif isinstance(found, Mapping):
            found = found.get(part)
        else:
            return None
    if found is None or found == "":
        return None
    return found if isinstance(found, str) else json.dumps(found, ensure_ascii=False, default=str)


def split_outputs(folder: Path) -> list[Path]:
    """Return the files that a split writes into a folder."""
    return [folder / name for name in (CONVERTED, TRAIN, TEST)]


def split_rows(
    source: RecordSource,
    folder: Path,
    options: SplitOptions,
    *,
    form: str = "auto",
    stratify_is_asked: bool = False,
    num_workers: int = 1,
    progress_bar: bool = True,
) -> dict[str, Any]:
    """Convert and divide rows, and return the report.

    Args:
        source: Rows.
        folder: Where the files go.
        options: How rows are divided.
        form: Form of the rows, or "auto".
        stratify_is_asked: Refuse to go on where no row has the field of ``options.stratify``.
        num_workers: Processes that convert rows.
        progress_bar: Show one.

    Raises:
        UserError: An option is out of range, or no row can be used.
    """
    if options.near_duplicates not in _TEXTS:
        raise UserError(f"near_duplicates: {suggest(options.near_duplicates, _TEXTS)}")
    if not 0 < options.test_ratio < 1:
        raise UserError(f"test_ratio={options.test_ratio} has to be above 0 and below 1")
    key = ["split", _SPLIT_VERSION, source.fingerprint, form, asdict(options)]
    run = RowRun(folder / f".{CONVERTED}.partial", key)
    tool = SplitTool(form, options)
    run.run(source, tool, num_workers=num_workers, progress_bar=progress_bar, title="converting")
    marks = [(str(line["stratum"]), str(line["group"])) for line in _lines(run.output)]
    strata, groups = [mark[0] for mark in marks], [mark[1] for mark in marks]
    if stratify_is_asked and set(strata) == {NO_STRATUM}:
        keys = sorted({key for line in _lines(run.output) for key in line["row"]})
        raise UserError(
            f"no row has the field '{options.stratify}', by which rows are to be divided. "
            f"{suggest(str(options.stratify), keys)}; stratify=null goes without strata"
        )
    division = divide(
        strata,
        groups,
        test_ratio=options.test_ratio,
        seed=options.seed,
        single_to_test=options.single_to_test,
    )
    report_path, rejected_path = reports_beside(folder / CONVERTED)
    report = {
        "task": "split",
        "version": _SPLIT_VERSION,
        "output": CONVERTED,
        "options": asdict(options),
        **run.account.to_json(),
        **_division_report(strata, groups, division),
    }
    report["counts"] = {}
    rejected_path.unlink(missing_ok=True)
    if run.account.num_rejected:
        with whole_file(rejected_path) as file:
            file.write(run.rejected.read_text(encoding="utf-8"))
    if not marks:
        run.remove()
        reason = next(iter(run.account.rejected), "there are none")
        raise UserError(f"no row can be used ({reason}); all of them are in {rejected_path}")
    _write_sides(run.output, folder, division)
    write_json(report_path, report)
    run.remove()
    return report


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open("rb") as file:  # bytes: only "\n" ends a line
        for line in file:
            yield json.loads(line)


def _write_sides(made: Path, folder: Path, division: Division) -> None:
    converted, train, test = split_outputs(folder)
    # The converted rows get their name last of all: with them, the output is finished.
    with (
        whole_file(converted) as all_rows,
        whole_file(train) as train_rows,
        whole_file(test) as test_rows,
    ):
        for line, is_test in zip(_lines(made), division.is_test, strict=True):
            text = json.dumps(line["row"], ensure_ascii=False) + "\n"
            all_rows.write(text)
            (test_rows if is_test else train_rows).write(text)


def _division_report(strata: list[str], groups: list[str], division: Division) -> dict[str, Any]:
    sides: dict[str, dict[str, int]] = {
        stratum: {"train": 0, "test": 0} for stratum in sorted(set(strata))
    }
    for stratum, is_test in zip(strata, division.is_test, strict=True):
        sides[stratum]["test" if is_test else "train"] += 1
    num_test = sum(division.is_test)
    return {
        "num_train": len(strata) - num_test,
        "num_test": num_test,
        "strata": sides,
        "single": list(division.single),
        "without_test": list(division.without_test),
        "num_near_duplicates": len(groups) - len(set(groups)),
    }
