"""Rows through a tool: order, interruption, accounts."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ift_lightning.data.record_sources import FileSource
from ift_lightning.data.record_tools import ReverseTool
from ift_lightning.data.row_tools import CHUNK_ROWS, RowRun, ToolRow, finish, map_chunks
from ift_lightning.data.sources import find_data_files
from ift_lightning.data.tool_files import check_output, json_line, reports_beside
from ift_lightning.data.variants import REVERSE_INSTRUCTION
from ift_lightning.errors import BadRowError, UserError
from ift_lightning.types import InstructionRecord, RawRow

NUM_ROWS = 3 * CHUNK_ROWS + 5


@dataclass(frozen=True)
class Shout:
    """Upper case; refuses every seventh row, and stops dead at one of them."""

    stop_at: int | None = None

    def __call__(self, raw: RawRow, record: InstructionRecord) -> ToolRow:
        number = int(record.instruction)
        if number == self.stop_at:
            raise KeyboardInterrupt
        if number % 7 == 0:
            raise BadRowError("seven; it is unlucky", field="instruction")
        row = {"id": record.id, "output": record.output.upper()}
        return ToolRow(row, number % 2 == 0, Counter({"odd": number % 2}))


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    made = [json_line({"instruction": str(n), "output": f"a{n}"}) for n in range(NUM_ROWS)]
    made[300] = "{broken\n"
    path.write_text("".join(made), encoding="utf-8")
    return path


def run_tool(rows: Path, folder: Path, tool: Shout, num_workers: int = 1) -> dict[str, Any]:
    run = RowRun(folder / ".work", "key")
    run.run(FileSource(rows), tool, num_workers=num_workers, progress_bar=False)
    facts = {"resumed": run.num_resumed}
    return finish(run, folder / "o.jsonl", folder / "r.jsonl", folder / "report.json", facts)


def test_accounts_and_rejections(rows: Path, tmp_path: Path) -> None:
    report = run_tool(rows, tmp_path / "out", Shout())
    unlucky = len(range(0, NUM_ROWS, 7))
    assert report["num_rows"] == NUM_ROWS
    assert report["num_rejected"] == unlucky + 1 and report["rejected"]["seven"] == unlucky
    assert report["num_changed"] + report["num_unchanged"] == NUM_ROWS - unlucky - 1
    assert report["counts"] == {"odd": report["num_unchanged"]}
    rejected = [json.loads(line) for line in (tmp_path / "out/r.jsonl").read_text().splitlines()]
    # In the order of the file, whoever refused the row.
    numbers = [row["line"] for row in rejected]
    assert numbers == sorted([*(n + 1 for n in range(0, NUM_ROWS, 7)), 301])
    assert not (tmp_path / "out/.work").exists()


def test_a_stopped_run_goes_on_and_gives_the_same_bytes(rows: Path, tmp_path: Path) -> None:
    run_tool(rows, tmp_path / "whole", Shout())
    with pytest.raises(KeyboardInterrupt):
        run_tool(rows, tmp_path / "parts", Shout(stop_at=2 * CHUNK_ROWS + 3))
    assert not (tmp_path / "parts/o.jsonl").exists()
    # What a killed process had written behind the last whole chunk goes.
    with (tmp_path / "parts/.work/rows.jsonl").open("a") as file:
        file.write('{"half": ')
    report = run_tool(rows, tmp_path / "parts", Shout())
    assert report["resumed"] == 2 * CHUNK_ROWS
    for name in ("o.jsonl", "r.jsonl"):
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    whole = json.loads((tmp_path / "whole/report.json").read_text())
    assert {**report, "resumed": 0} == whole


def test_other_rows_or_options_start_over(rows: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run_tool(rows, tmp_path, Shout(stop_at=2 * CHUNK_ROWS + 3))
    run = RowRun(tmp_path / ".work", "another key")
    run.run(FileSource(rows), Shout(), progress_bar=False)
    assert run.num_resumed == 0 and run.account.num_rows == NUM_ROWS


@pytest.mark.slow
def test_processes_give_the_same_bytes(rows: Path, tmp_path: Path) -> None:
    run_tool(rows, tmp_path / "one", Shout())
    run_tool(rows, tmp_path / "two", Shout(), num_workers=2)
    assert (tmp_path / "one/o.jsonl").read_bytes() == (tmp_path / "two/o.jsonl").read_bytes()


def test_chunks_keep_their_order() -> None:
    assert list(map_chunks(sum, range(10), num_workers=1, chunk_size=4)) == [6, 22, 17]
    assert list(map_chunks(sum, [], num_workers=1)) == []


def test_a_second_process_is_refused(tmp_path: Path, rows: Path) -> None:
    first, second = RowRun(tmp_path / "w", 1), RowRun(tmp_path / "w", 1)
    first.folder.mkdir()
    with first._locked(), pytest.raises(UserError, match="another process"):
        second.run(FileSource(rows), Shout(), progress_bar=False)


def test_no_row_can_be_used(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"instruction": "0", "output": "x"}\n')
    with pytest.raises(UserError, match=r"no row can be used \(seven\)"):
        run_tool(path, tmp_path / "out", Shout())
    assert not (tmp_path / "out/o.jsonl").exists() and (tmp_path / "out/r.jsonl").exists()


def test_outputs_in_the_way(tmp_path: Path) -> None:
    source, done = tmp_path / "in", tmp_path / "done.jsonl"
    source.mkdir()
    done.write_text("{}")
    check_output(source, [done], overwrite=True)
    check_output(source, [tmp_path / "in2"], overwrite=False)
    with pytest.raises(UserError, match="overwrite=true"):
        check_output(source, [done], overwrite=False)
    with pytest.raises(UserError, match="the same file"):
        check_output(done, [tmp_path / "in/../done.jsonl"], overwrite=True)
    with pytest.raises(UserError, match="inside"):
        check_output(source, [source / "out.jsonl"], overwrite=True)


def test_reports_of_two_outputs_in_a_folder_do_not_meet(tmp_path: Path) -> None:
    a, b = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    assert reports_beside(a)[0] == tmp_path / "report.json"
    (tmp_path / "report.json").write_text('{"output": "a.jsonl", "task": "x", "num_rows": 1}')
    assert reports_beside(a)[0] == tmp_path / "report.json"
    assert reports_beside(b) == (tmp_path / "b.report.json", tmp_path / "b.rejected.jsonl")


def test_a_folder_is_read_without_the_reports_in_it(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("{}\n")
    (tmp_path / "rejected.jsonl").write_text("{}\n")
    (tmp_path / "report.json").write_text('{"instruction": "a row of its own"}')
    assert len(find_data_files(tmp_path)) == 3
    (tmp_path / "report.json").write_text('{"task": "split", "num_rows": 1}')
    assert [path.name for path in find_data_files(tmp_path)] == ["a.jsonl"]


def test_reverse_twice_is_reverse_once(tmp_path: Path) -> None:
    record = InstructionRecord("r", "Name it.", "", "red")
    raw = RawRow({}, None)  # type: ignore[arg-type]
    made = ReverseTool()(raw, record)
    assert made.is_changed and made.row == {
        "id": "r",
        "instruction": REVERSE_INSTRUCTION,
        "input": "red",
        "output": "Name it.",
    }
    again = ReverseTool()(raw, InstructionRecord(**made.row))
    assert again.row == made.row and not again.is_changed
