"""``python -m ift_lightning.prepare``, as a user starts it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from ift_lightning.config.entry import (
    config_dir,
    register_resolvers,
    register_schema,
    to_dataclass,
)
from ift_lightning.config.prepare_schema import (
    TASK_SCHEMAS,
    PrepareConfig,
    register_tasks,
    task_option,
)
from ift_lightning.config.schema import TrainConfig
from ift_lightning.errors import UserError
from ift_lightning.preparing import _TASKS, prepare


def composed(*overrides: str) -> PrepareConfig:
    register_resolvers()
    register_schema("train", TrainConfig)
    register_schema("prepare", PrepareConfig)
    register_tasks()
    arguments = [*map(task_option, overrides), "run_dir=.", "progress_bar=false", "workers=1"]
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        return to_dataclass(compose("prepare", overrides=arguments), PrepareConfig)


def start(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ift_lightning.prepare", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=cwd,
        check=False,
    )


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    made = [
        {
            "id": f"r{n}",
            "instruction": f"Give {n}.",
            "output": f"x = {n}  # n",
            "language": "python",
        }
        for n in range(10)
    ]
    path.write_text("\n".join(map(json.dumps, [*made, {"instruction": "no answer"}])), "utf-8")
    return path


def lines(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


@pytest.mark.parametrize("name", TASK_SCHEMAS)
def test_every_task_composes_and_is_carried_out_by_something(name: str) -> None:
    config = composed(f"task={name}")
    assert type(config.task) is TASK_SCHEMAS[name] and config.task.name == name
    assert name in _TASKS


def test_options_of_a_task_need_no_prefix() -> None:
    assert task_option("test_ratio=0.1") == "task.test_ratio=0.1"
    for word in ("task=split", "task.test_ratio=0.1", "input=a", "name=x", "output=test_ratio=1"):
        assert task_option(word) == word
    assert composed("task=split", "test_ratio=0.1").task.test_ratio == 0.1  # type: ignore[attr-defined]


def test_strip_comments(rows: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    report = prepare(composed("task=strip_comments", f"input={rows}", f"output={output}"))
    assert [row["output"] for row in lines(output)] == [f"x = {n}" for n in range(10)]
    assert [row["id"] for row in lines(output)] == [f"r{n}" for n in range(10)]
    assert (report["num_changed"], report["num_rejected"]) == (10, 1)
    assert report["counts"]["removed:comment"] == 10
    assert json.loads((tmp_path / "report.json").read_text()) == report


def test_docstrings_are_their_own_switch(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    code = 'def f():\n    """Say."""\n    return 1'
    path.write_text(json.dumps({"instruction": "i", "output": code, "language": "python"}))
    for switch, expected in (("false", code), ("true", "def f():\n    return 1")):
        output = tmp_path / f"{switch}.jsonl"
        prepare(
            composed(
                "task=strip_comments",
                f"input={path}",
                f"output={output}",
                f"strip_docstrings={switch}",
            )
        )
        assert lines(output)[0]["output"] == expected


def test_reverse_is_what_training_does(rows: Path, tmp_path: Path) -> None:
    from ift_lightning.data.record_sources import FileSource
    from ift_lightning.data.variants import variant

    output = tmp_path / "out.jsonl"
    prepare(composed("task=reverse", f"input={rows}", f"output={output}"))
    turn = variant("reverse")
    expected = [turn(record).to_json() for _, record in FileSource(rows).records(lambda row: None)]
    assert lines(output) == expected
    (rejected,) = lines(tmp_path / "rejected.jsonl")
    assert rejected["line"] == 11


def test_a_finished_output_is_kept(rows: Path, tmp_path: Path) -> None:
    options = ("task=reverse", f"input={rows}", f"output={tmp_path / 'out.jsonl'}")
    prepare(composed(*options))
    before = (tmp_path / "out.jsonl").read_bytes()
    with pytest.raises(UserError, match="overwrite=true"):
        prepare(composed(*options))
    prepare(composed(*options, "overwrite=true"))
    assert (tmp_path / "out.jsonl").read_bytes() == before


def test_drills_then_split(tmp_path: Path) -> None:
    sizes = ("num_train=20", "num_val=0", "num_test=0")
    prepare(composed("task=drills", "kind=defects", f"output={tmp_path / 'raw'}", *sizes))
    report = prepare(
        composed("task=split", f"input={tmp_path / 'raw'}", f"output={tmp_path / 's'}")
    )
    assert report["num_train"] + report["num_test"] == report["num_rows"] == 20
    assert report["single"] and report["num_rejected"] == 0


def test_audit_measures_what_would_be_trained_on(rows: Path, tmp_path: Path) -> None:
    config = composed(
        "task=audit",
        f"input={rows}",
        f"output={tmp_path / 'audit'}",
        "data.test_fraction=0",
        "data.val_fraction=0",
        "num_samples=2",
    )
    report = prepare(config)
    train = report["splits"]["train"]
    assert (train["num_rows"], report["num_rejected"], report["languages"]) == (
        10,
        1,
        {"python": 10},
    )
    from ift_lightning import assembly

    builder = assembly.build_example_builder(config, assembly.build_tokenizer(config))
    source = assembly.build_source(config.data)
    assert source.fingerprint  # the data group's own rows, which the audit did not look at
    from ift_lightning.data.record_sources import FileSource

    records = [record for _, record in FileSource(rows).records(lambda row: None)]
    examples = builder.build(records)
    assert train["num_tokens"] == sum(len(one.input_ids) for one in examples)  # type: ignore[union-attr]
    assert train["num_target_tokens"] == sum(one.num_target_tokens for one in examples)  # type: ignore[union-attr]
    page = (tmp_path / "audit/report.html").read_text("utf-8")
    assert page.count("<pre>") == 2 and "<mark>x = " in page
    assert json.loads((tmp_path / "audit/report.json").read_text("utf-8")) == report


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (("task=split",), "input=PATH"),
        (("task=split", "input=nowhere"), "output=PATH, a folder"),
        (("task=reverse", "input=a", "output=b"), "ends in .jsonl"),
        (("task=split", "input=a", "output=b.jsonl"), "writes several files"),
        (("task=drills",), "output=PATH"),
        (("task=split", "input=nowhere", "output=b"), "There is no file or folder 'nowhere'"),
    ],
)
def test_what_is_missing_is_said(overrides: tuple[str, ...], expected: str) -> None:
    with pytest.raises(UserError, match=expected):
        prepare(composed(*overrides))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["task=splt"], "Did you mean 'split'? Valid: audit, drills, generate_cot"),
        (["task=split", "task.test_ration=3"], "Did you mean 'test_ratio'?"),
        (["task=split", "+task.x=3"], "Valid: name, near_duplicates"),
        (["task=split", "near_duplicates=some"], "request, row, none"),
        ([], "You must specify 'task'"),
    ],
)
def test_wrong_option_is_answered_with_the_valid_ones(
    arguments: list[str], expected: str, tmp_path: Path
) -> None:
    result = start(*arguments, cwd=tmp_path)
    assert result.returncode == 1 and expected in result.stderr, result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.slow
def test_from_the_command_line(rows: Path, tmp_path: Path) -> None:
    result = start("task=reverse", "input=rows.jsonl", "output=out/r.jsonl", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "10 of 11 rows changed, 0 did not" in result.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "rows.jsonl"]
