"""Raw defect JSON to chat rows, to the letter; other forms stay as they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ift_lightning.data.drills import defect_to_chat, generate_defects
from ift_lightning.data.normalized_text import normalized
from ift_lightning.data.record_sources import FileSource
from ift_lightning.data.splitting import CONVERTED, SplitOptions, split_rows
from ift_lightning.errors import UserError


def raw(subtype: str, number: int) -> dict[str, Any]:
    return {
        "instruction": [{"subtype": subtype}],
        "input": {"task": "判断", "event": f"事件 {number}", "output_format": "一句话"},
        "output": {"judgement": "有缺陷", "reason": "越界"},
    }


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def split(source: Path, folder: Path, **options: Any) -> dict[str, Any]:
    return split_rows(FileSource(source), folder, SplitOptions(**options), progress_bar=False)


def test_the_chat_rows_of_the_defect_study(tmp_path: Path) -> None:
    source = tmp_path / "raw"
    source.mkdir()
    # One object in a file, and a list in another.
    (source / "1.json").write_text(json.dumps(raw("边界", 0)), encoding="utf-8")
    more = [raw("边界", number) for number in range(1, 5)]
    (source / "2.json").write_text(json.dumps(more), encoding="utf-8")
    report = split(source, tmp_path / "out")
    assert lines(tmp_path / "out" / CONVERTED)[0] == {
        "subtype": "边界",
        "text": [
            {"role": "user", "content": "任务：判断\n\n事件：\n事件 0\n\n输出格式：\n一句话"},
            {"role": "assistant", "content": "判断:有缺陷\n\n原因：越界"},
        ],
    }
    assert (report["num_train"], report["num_test"]) == (4, 1)
    assert report["strata"] == {"边界": {"train": 4, "test": 1}}
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "converted_data.jsonl",
        "report.json",
        "test.jsonl",
        "train.jsonl",
    ]


def test_generated_defects_pass_through(tmp_path: Path) -> None:
    rows = list(generate_defects("train", 40))
    path = tmp_path / "defects.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    report = split(path, tmp_path / "out")
    assert lines(tmp_path / "out" / CONVERTED) == [defect_to_chat(row) for row in rows]
    assert report["num_rejected"] == 0
    assert all(sides["test"] >= 1 for sides in report["strata"].values())
    train, test = lines(tmp_path / "out/train.jsonl"), lines(tmp_path / "out/test.jsonl")
    both = [*train, *test]
    assert sorted(map(json.dumps, both)) == sorted(
        map(json.dumps, lines(tmp_path / "out" / CONVERTED))
    )


def test_any_form_by_any_field_with_ids_and_like_rows_together(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rows = [
        {"instruction": f"Do {n}.", "output": "x", "meta": {"level": "ab"[n % 2]}}
        for n in range(20)
    ]
    rows += [{"instruction": f"do  {n}", "output": "y", "meta": {"level": "a"}} for n in range(20)]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    report = split(path, tmp_path / "out", stratify="meta.level", test_ratio=0.25)
    assert set(report["strata"]) == {"a", "b"}
    assert report["num_near_duplicates"] == 20
    made = lines(tmp_path / "out" / CONVERTED)
    assert [{k: v for k, v in row.items() if k != "id"} for row in made] == rows
    records = [record.id for _, record in FileSource(path).records(lambda row: None)]
    assert [row["id"] for row in made] == records
    sides = [
        {normalized(row["instruction"]) for row in lines(tmp_path / f"out/{side}.jsonl")}
        for side in ("train", "test")
    ]
    assert not sides[0] & sides[1] and sides[1]
    without = split(path, tmp_path / "o2", stratify=None, near_duplicates="row")
    assert without["num_near_duplicates"] == 0


def test_an_own_id_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text(json.dumps([{"id": 7, **raw("a", 1)}, raw("a", 2)]), encoding="utf-8")
    split(path, tmp_path / "out")
    assert [row.get("id") for row in lines(tmp_path / "out" / CONVERTED)] == ["7", None]


def test_a_field_that_no_row_has(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text(json.dumps([{"instruction": "a", "output": "b", "kind": "k"}]), "utf-8")
    with pytest.raises(UserError, match=r"no row has the field 'kinds'.*Did you mean 'kind'"):
        split_rows(
            FileSource(path),
            tmp_path / "out",
            SplitOptions(stratify="kinds"),
            stratify_is_asked=True,
            progress_bar=False,
        )


def test_a_row_that_lacks_a_key_is_rejected_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    broken = raw("a", 3)
    del broken["output"]["reason"]
    path.write_text("\n".join(map(json.dumps, [raw("a", 1), broken, raw("a", 2)])), "utf-8")
    report = split(path, tmp_path / "out")
    assert report["rejected"] == {"'output.reason' is missing": 1}
    (row,) = lines(tmp_path / "out/rejected.jsonl")
    assert (row["line"], row["field"]) == (2, "output.reason")


def test_operators_tell_rows_apart_and_spelling_does_not() -> None:
    assert normalized("Return  A + B.") == normalized("return a+b")
    assert normalized("return a + b") != normalized("return a - b")
    assert normalized("x != y") != normalized("x == y")
    assert normalized("判断：有 缺陷。") == normalized("判断:有 缺陷")
