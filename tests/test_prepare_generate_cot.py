"""``python -m ift_lightning.prepare task=generate_cot``, as a user starts it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from teaching.fake_server import Reply, Seen, completion, serving


def prepare(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ift_lightning.prepare", *arguments],
        capture_output=True,
        text=True,
        timeout=200,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        check=False,
    )


def write_rows(folder: Path) -> None:
    rows = [
        {
            "id": f"r{number}",
            "instruction": f"Add {number}.",
            "output": f"def f(x):\n    return x + {number}",
            "complex_think_step": "c" * 20,
            "entry_point": "f",
            "tests": [{"args": [1], "expected": 1 + number}],
        }
        for number in range(3)
    ]
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")


@pytest.mark.slow
def test_from_the_command_line_with_the_sandbox(tmp_path: Path) -> None:
    write_rows(tmp_path)

    def behave(number: int, seen: Seen) -> Reply:
        # Right for row 1 only.
        fields = {"normal_think_step": "nn", "simple_think_step": "s"}
        return completion(json.dumps({**fields, "code": "def f(x):\n    return x + 1"}))

    with serving(behave) as server:
        arguments = [
            "task=generate_cot",
            "input=rows.jsonl",
            "output=out/rows.jsonl",
            f"teacher.base_url={server.url}",
            "teacher.model=big",
            "teacher.price_per_million_prompt_tokens=1",
            "teacher.price_per_million_completion_tokens=2",
            "teacher.options.seed=3",
            "cot.max_attempts=2",
            "cot.form=think_steps",
            "cot_prompts=zh",
        ]
        result = prepare(*arguments, cwd=tmp_path)
        assert result.returncode == 0, result.stderr
        assert "3 rows: 1 with new reasoning, 0 had it, 2 failed" in result.stdout
        assert "2: the code after the reasoning fails the tests" in result.stdout
        assert "5 answers, 500 prompt and 50 completion tokens, 0.0006 USD" in result.stdout
        assert server.seen[0].body["seed"] == 3
        assert "推理过程" in server.seen[0].prompt
    (row,) = map(json.loads, (tmp_path / "out/rows.jsonl").read_text("utf-8").splitlines())
    assert (row["id"], row["normal_think_step"]) == ("r1", "nn")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "rows.jsonl"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "rows.answers.jsonl",
        "rows.failed.jsonl",
        "rows.jsonl",
        "rows.report.json",
    ]


@pytest.mark.slow
def test_what_is_wrong_is_said_in_one_message(tmp_path: Path) -> None:
    write_rows(tmp_path)
    for arguments, expected in (
        (["task=generate_kot"], "Did you mean 'generate_cot'"),
        (["task=generate_cot", "teacher.base_url=http://127.0.0.1:1/v1"], "teacher.model=NAME"),
        (["task=generate_cot", "teacher=lokal"], "Did you mean 'local'"),
        (["task=generate_cot", "cot.sorce=row"], "Did you mean 'source'"),
    ):
        result = prepare(*arguments, "input=rows.jsonl", "output=out.jsonl", cwd=tmp_path)
        assert result.returncode == 1 and expected in result.stderr, result.stderr
        assert "Traceback" not in result.stderr
