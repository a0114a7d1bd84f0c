"""Rows through a teacher: no bad answer becomes a target, none that was paid for is lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from teaching.fake_server import FakeServer, Reply, Seen, completion, levels, serving

from ift_lightning.config.teaching_schema import (
    CotConfig,
    CotPromptsConfig,
    CotRowForm,
    CotSource,
    TeacherConfig,
    TeacherKind,
)
from ift_lightning.cot_generation import generate_cot
from ift_lightning.errors import UserError
from ift_lightning.teachers import build_teacher
from ift_lightning.teaching.accounts import CotFiles
from ift_lightning.teaching.exchange import TeacherUnusableError

PROMPTS = CotPromptsConfig("p", "", "{{ row }}", "{{ row }}")
GOOD = levels(normal="nn", simple="s")


def write_rows(path: Path, count: int, **changes: Any) -> Path:
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            row = {
                "id": f"row{number}",
                "instruction": f"task {number}.",
                "output": "o",
                "reasoning": {"complex": "c" * 20},
                **changes,
            }
            file.write(json.dumps(row) + "\n")
    return path


def teacher_at(server: FakeServer, **changes: Any) -> TeacherConfig:
    values: dict[str, Any] = {
        "concurrency": 3,
        "retry_seconds": 0.01,
        "max_retry_seconds": 0.02,
        "max_retries": 2,
        "timeout_seconds": 5.0,
        "price_per_million_prompt_tokens": 2.0,
        "price_per_million_completion_tokens": 10.0,
        **changes,
    }
    return TeacherConfig("t", TeacherKind.openai, "big", base_url=server.url, **values)


def generate(
    tmp_path: Path, server: FakeServer, *, check_code: Any = None, teacher: Any = None, **cot: Any
) -> dict[str, Any]:
    files = CotFiles(tmp_path / "rows.jsonl", tmp_path / "out.jsonl")
    return generate_cot(
        files,
        teacher_at(server, **(teacher or {})),
        PROMPTS,
        CotConfig(**cot),
        check_code=check_code and (lambda: check_code),
        progress_bar=False,
    )


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def row_of(seen: Seen) -> str:
    return str(json.loads(seen.prompt)["instruction"])


def test_rows_come_out_in_their_order_with_an_account(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", 12)

    def behave(number: int, seen: Seen) -> Reply:
        reply = levels(normal="nn", simple="s")
        reply.seconds = 0.02 * (number % 3)
        return reply

    with serving(behave) as server:
        report = generate(tmp_path, server)
        assert len(server.seen) == 12
        assert server.max_in_flight <= 3
    rows = lines(tmp_path / "out.jsonl")
    assert [row["id"] for row in rows] == [f"row{number}" for number in range(12)]
    assert rows[0]["reasoning"] == {"simple": "s", "normal": "nn", "complex": "c" * 20}
    assert lines(tmp_path / "out.failed.jsonl") == []
    assert report == json.loads((tmp_path / "out.report.json").read_text(encoding="utf-8"))
    assert (report["num_rows"], report["num_changed"], report["num_failed"]) == (12, 12, 0)
    assert report["status"] == "completed"
    assert report["this_run"] == {
        "num_answers": 12,
        "num_prompt_tokens": 1200,
        "num_completion_tokens": 120,
        "cost": pytest.approx((1200 * 2 + 120 * 10) / 1e6),
    }


def test_requests_are_in_flight_together(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", 6)

    def behave(number: int, seen: Seen) -> Reply:
        # Nobody is answered before three have asked: one at a time, this would time out.
        deadline = time.monotonic() + 4
        while len(server.seen) < 3 and time.monotonic() < deadline:
            time.sleep(0.005)
        return GOOD

    with serving(behave) as server:
        assert generate(tmp_path, server, teacher={"max_retries": 0})["num_changed"] == 6
        assert server.max_in_flight == 3


BAD = {
    "empty": completion(""),
    "refusal": completion("I'm sorry, but I can't help with that."),
    "refusal in Chinese": completion("抱歉，我无法完成这个请求。"),
    "cut": completion(json.dumps({"normal_think_step": "nn", "simple_think_step": "s"}), "length"),
    "half a JSON": completion('{"normal_think_step": "nn", "simple'),
    "not ordered": levels(normal="s", simple="nn"),
    "longer than complex": levels(normal="n" * 21, simple="s"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_answer_is_asked_for_again_and_never_written(tmp_path: Path, name: str) -> None:
    """Row 1's first answer is bad, all of row 2's are."""
    write_rows(tmp_path / "rows.jsonl", 4)
    asked: Counter[str] = Counter()

    def behave(number: int, seen: Seen) -> Reply:
        row = row_of(seen)
        asked[row] += 1
        bad = row == "task 2." or (row == "task 1." and asked[row] == 1)
        return BAD[name] if bad else GOOD

    with serving(behave) as server:
        report = generate(tmp_path, server, max_attempts=3)
        assert asked == {"task 0.": 1, "task 1.": 2, "task 2.": 3, "task 3.": 1}
        assert [row["id"] for row in lines(tmp_path / "out.jsonl")] == ["row0", "row1", "row3"]
        (failed,) = lines(tmp_path / "out.failed.jsonl")
        assert failed["row"]["id"] == "row2" and failed["line"] == 3
        assert len(failed["attempts"]) == 3 and failed["attempts"][-1] == failed["reason"]
        assert (report["num_failed"], report["num_bad_answers"]) == (1, 4)
        assert sum(report["failed"].values()) == 1
        # Again: everything is known, the failure included, and nothing is paid for.
        first = (tmp_path / "out.jsonl").read_bytes()
        report = generate(tmp_path, server, max_attempts=3)
        assert len(server.seen) == 7
        assert (report["this_run"]["num_answers"], report["from_journal"]["num_answers"]) == (0, 7)
        assert report["this_run"]["cost"] == 0.0
        assert (tmp_path / "out.jsonl").read_bytes() == first
        # One attempt more is one request more.
        generate(tmp_path, server, max_attempts=4)
        assert len(server.seen) == 8 and row_of(server.seen[-1]) == "task 2."


def test_a_row_whose_request_is_refused_is_reported_and_asked_about_in_the_next_run(
    tmp_path: Path,
) -> None:
    write_rows(tmp_path / "rows.jsonl", 3)
    broken = True

    def behave(number: int, seen: Seen) -> Reply:
        return Reply(400, {}) if broken and row_of(seen) == "task 1." else GOOD

    with serving(behave) as server:
        report = generate(tmp_path, server)
        assert report["failed"] == {"the server refuses the request": 1}
        broken = False
        assert generate(tmp_path, server)["num_changed"] == 3
        assert len(server.seen) == 4


def test_a_server_that_is_gone_stops_the_run_and_the_next_one_goes_on(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", 30)
    limit = 10

    def behave(number: int, seen: Seen) -> Reply:
        return GOOD if number < limit else Reply(500, {})

    with serving(behave) as server:
        with pytest.raises(TeacherUnusableError, match=r"5 requests in a row.*goes on from there"):
            generate(tmp_path, server)
        assert not (tmp_path / "out.jsonl").exists()
        report = json.loads((tmp_path / "out.report.json").read_text(encoding="utf-8"))
        assert (report["status"], report["this_run"]["num_answers"]) == ("interrupted", 10)
        limit = 10**6
        before = len(server.seen)
        report = generate(tmp_path, server)
        assert report["num_changed"] == 30
        assert len(server.seen) - before == 20


def test_rows_that_need_nothing_or_cannot_be_asked_about(tmp_path: Path) -> None:
    rows = [
        {"id": "done", "instruction": "i", "output": "o", "complex_think_step": "ccc",
         "normal_think_step": "bb", "simple_think_step": "a"},
        {"id": "bare", "instruction": "i", "output": "o"},
        {"id": "broken", "instruction": "i"},
        {"id": "open", "instruction": "task.", "output": "o", "complex_think_step": "c" * 20},
    ]  # fmt: skip
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    with serving(lambda number, seen: GOOD) as server:
        report = generate(tmp_path, server, form=CotRowForm.think_steps)
        assert len(server.seen) == 1
    written = lines(tmp_path / "out.jsonl")
    assert [row["id"] for row in written] == ["done", "open"]
    assert written[0] == {**rows[0]}
    assert written[1]["normal_think_step"] == "nn" and "reasoning" not in written[1]
    failed = {row["row"]["id"]: row for row in lines(tmp_path / "out.failed.jsonl")}
    assert failed["bare"]["field"] == "reasoning.complex"
    assert failed["broken"]["line"] == 3
    assert (report["num_rows"], report["num_changed"]) == (4, 1)
    assert (report["num_unchanged"], report["num_failed"]) == (1, 2)


def test_all_levels_from_the_bare_row(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", 2, reasoning=None)
    with serving(lambda number, seen: levels(complex="ccc", normal="nn", simple="s")) as server:
        generate(tmp_path, server, source=CotSource.row)
    assert {json.dumps(row["reasoning"]) for row in lines(tmp_path / "out.jsonl")} == {
        '{"simple": "s", "normal": "nn", "complex": "ccc"}'
    }


def test_code_is_run_against_the_tests_or_the_run_refused(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", 2, tests=["assert f() == 1"], entry_point="f")

    def behave(number: int, seen: Seen) -> Reply:
        code = "good" if row_of(seen) == "task 0." else "bad"
        fields = {"normal_think_step": "nn", "simple_think_step": "s", "code": code}
        return completion(json.dumps(fields))

    def check(record: Any, code: str) -> str | None:
        return None if code == "good" else "f() gave 2"

    with serving(behave) as server:
        with pytest.raises(UserError, match=r"2 rows have tests.*cot.check_tests=false"):
            generate(tmp_path, server)
        assert server.seen == []
        report = generate(tmp_path, server, check_code=check)
        assert (report["num_rows_with_tests"], report["num_rows_tested"]) == (2, 2)
        assert [row["id"] for row in lines(tmp_path / "out.jsonl")] == ["row0"]
        assert report["failed"] == {"the code after the reasoning fails the tests": 1}
        report = generate(tmp_path, server, check_tests=False)
        assert (report["num_rows_with_tests"], report["num_rows_tested"]) == (2, 0)
        write_rows(tmp_path / "rows.jsonl", 1, tests=["assertEquals(1, f());"], language="java")
        assert generate(tmp_path, server, check_code=check)["num_rows_tested"] == 0


def test_the_key_is_sent_and_stands_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MY_KEY", "sk-secret-123")
    write_rows(tmp_path / "rows.jsonl", 2)
    with serving(lambda number, seen: GOOD if number else Reply(500, {})) as server:
        generate(tmp_path, server, teacher={"api_key_env": "MY_KEY"})
        assert server.seen[0].headers["authorization"] == "Bearer sk-secret-123"
    for path in tmp_path.iterdir():
        assert "sk-secret-123" not in path.read_text(encoding="utf-8"), path
    assert "sk-secret-123" not in "".join(capfd.readouterr())


def test_what_cannot_work_is_said_before_anything_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(UserError, match="environment variable OPENAI_API_KEY"):
        build_teacher(TeacherConfig("openai", TeacherKind.openai, "big"))
    with pytest.raises(UserError, match="password"):
        url = "http://me:word@127.0.0.1/v1"
        build_teacher(TeacherConfig("openai", TeacherKind.openai, "big", base_url=url))


# --- interrupted ---------------------------------------------------------------------------------

PROGRAM = """
import json, sys
from pathlib import Path
from ift_lightning.config.teaching_schema import *
from ift_lightning.cot_generation import generate_cot
from ift_lightning.teaching.accounts import CotFiles
folder, url = Path(sys.argv[1]), sys.argv[2]
generate_cot(
    CotFiles(folder / "rows.jsonl", folder / "out.jsonl"),
    TeacherConfig("t", TeacherKind.openai, "big", base_url=url, concurrency=3),
    CotPromptsConfig("p", "", "{{ row }}", "{{ row }}"),
    CotConfig(),
    check_code=None,
    progress_bar=False,
)
"""


def start(tmp_path: Path, server: FakeServer) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(tmp_path), server.url],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        # Whoever runs the tests in the background may have switched interrupts off.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def journaled(tmp_path: Path) -> list[str]:
    path = tmp_path / "out.answers.jsonl"
    whole = path.read_bytes().split(b"\n")[:-1]
    return [json.loads(line)["row_id"] for line in whole]


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGKILL])
def test_interrupted_it_goes_on_without_paying_twice(tmp_path: Path, kind: signal.Signals) -> None:
    write_rows(tmp_path / "rows.jsonl", 24)

    def behave(number: int, seen: Seen) -> Reply:
        reply = levels(normal="nn", simple="s")
        reply.seconds = 0.1
        return reply

    with serving(behave) as server:
        process = start(tmp_path, server)
        deadline = time.monotonic() + 60
        while len(server.seen) < 9 and time.monotonic() < deadline:
            time.sleep(0.005)
        process.send_signal(kind)
        _, errors = process.communicate(timeout=60)
        assert process.returncode != 0, errors
        assert not (tmp_path / "out.jsonl").exists()
        known = journaled(tmp_path)
        assert len(set(known)) == len(known)
        answered = {row_of(seen) for seen in server.seen if seen.answered}
        asked = len(server.seen)
        if kind is signal.SIGINT:
            # What was on its way was waited for: every request has its answer on the disk.
            assert b"waiting for" in errors
            assert len(known) == len(answered) == asked
            report = json.loads((tmp_path / "out.report.json").read_text(encoding="utf-8"))
            assert report["status"] == "interrupted"
            assert report["this_run"]["num_answers"] == asked
        else:
            # Only answers that had not arrived are missing: one for each worker, at most.
            assert asked - 3 <= len(known) <= asked
        report = generate(tmp_path, server)
        again = {f"row{row_of(seen).split()[1].rstrip('.')}" for seen in server.seen[asked:]}
        assert not again & set(known)
        assert len(server.seen) - asked == 24 - len(known)
        assert report["from_journal"]["num_answers"] == len(known)
        assert [row["id"] for row in lines(tmp_path / "out.jsonl")] == [
            f"row{number}" for number in range(24)
        ]
        assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")] or (
            kind is signal.SIGKILL
        )


def test_a_second_interrupt_leaves_a_server_that_hangs(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", 5)
    with serving(lambda number, seen: Reply(hang=True)) as server:
        process = start(tmp_path, server)
        deadline = time.monotonic() + 60
        while len(server.seen) < 3 and time.monotonic() < deadline:
            time.sleep(0.005)
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        assert b"waiting for 3 requests" in b"".join(process.stderr.readline() for _ in range(2))
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)  # the server hangs for 30 seconds
        assert process.returncode != 0
