"""A model that really answers: behind ``transformers serve``, and in this process."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from teaching.conftest import ANSWER

from ift_lightning.config.teaching_schema import (
    CotConfig,
    CotPromptsConfig,
    TeacherConfig,
    TeacherKind,
)
from ift_lightning.cot_generation import generate_cot
from ift_lightning.errors import UserError
from ift_lightning.teaching.accounts import CotFiles
from ift_lightning.teaching.exchange import RequestFailedError, TeacherAnswer, TeacherRequest

PROMPTS = CotPromptsConfig("p", "", '"instruction": "{{ instruction }}"', "{{ instruction }}")
REASONING = {"simple": "Add.", "normal": "Add the two numbers.", "complex": "c" * 40}


@contextlib.contextmanager
def transformers_server(model: Path) -> Iterator[str]:
    """Serve a model on a free port of 127.0.0.1, and end the process by its own id."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    program = "from transformers.cli.transformers import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", program, "serve", str(model), "--host", "127.0.0.1"]
        + ["--port", str(port), "--device", "cpu"],
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        start_new_session=True,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 150
        while True:
            assert process.poll() is None, "the server has ended"
            assert time.monotonic() < deadline, "the server does not start"
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/health", timeout=5):
                break
            time.sleep(0.3)
        yield f"{url}/v1"
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(20)


def write_rows(path: Path, count: int) -> Path:
    rows = [
        {"id": f"r{n}", "instruction": f"task {n}.", "output": "o", "complex_think_step": "c" * 40}
        for n in range(count)
    ]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


def generate(folder: Path, teacher: TeacherConfig, **cot: Any) -> dict[str, Any]:
    files = CotFiles(folder / "rows.jsonl", folder / "out.jsonl")
    return generate_cot(
        files, teacher, PROMPTS, CotConfig(**cot), check_code=None, progress_bar=False
    )


def written(folder: Path) -> list[dict[str, Any]]:
    text = (folder / "out.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.slow
def test_a_real_server(tmp_path: Path, teacher_folder: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", 6)
    with transformers_server(teacher_folder) as url:
        settings: dict[str, Any] = {"base_url": url, "temperature": 0.0, "concurrency": 2}
        name = str(teacher_folder)
        # Cut by length: reported, and not one of them written.
        short = TeacherConfig("t", TeacherKind.openai, name, max_tokens=4, **settings)
        report = generate(tmp_path, short, max_attempts=2)
        assert (report["num_changed"], report["failed"]) == (0, {"the answer was cut at 4 tokens; raise teacher.max_tokens": 6})  # fmt: skip # noqa: E501
        assert report["this_run"]["num_answers"] == 12 and written(tmp_path) == []
        teacher = TeacherConfig("t", TeacherKind.openai, name, max_tokens=120, **settings)
        report = generate(tmp_path, teacher)
        assert (report["num_changed"], report["num_failed"]) == (6, 0)
        assert [row["reasoning"] for row in written(tmp_path)] == [REASONING] * 6
        usage = report["this_run"]
        assert usage["num_answers"] == 6
        assert usage["num_prompt_tokens"] > 0 and usage["num_completion_tokens"] > 6 * 10
    # The server is gone, and everything is known.
    report = generate(tmp_path, teacher)
    assert (report["num_changed"], report["this_run"]["num_answers"]) == (6, 0)


@pytest.mark.slow
def test_a_model_in_this_process(tmp_path: Path, teacher_folder: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", 5)
    settings: dict[str, Any] = {"batch_size": 2, "temperature": None, "max_tokens": 120}
    teacher = TeacherConfig("t", TeacherKind.local, str(teacher_folder), **settings)
    report = generate(tmp_path, teacher)
    assert (report["num_changed"], report["num_failed"]) == (5, 0)
    assert [row["reasoning"] for row in written(tmp_path)] == [REASONING] * 5
    assert generate(tmp_path, teacher)["this_run"]["num_answers"] == 0
    settings["max_tokens"] = 4
    short = TeacherConfig("t", TeacherKind.local, str(teacher_folder), **settings)
    report = generate(tmp_path, short, max_attempts=1)
    assert report["num_failed"] == 5 and written(tmp_path) == []


@pytest.mark.slow
def test_a_local_batch_answers_each_request_by_itself(teacher_folder: Path) -> None:
    """Padding changes nothing, what is too long is said, and the same seed gives the same text."""
    from ift_lightning.teaching.local_teacher import LocalTeacher

    teacher = LocalTeacher(str(teacher_folder), batch_size=3, max_tokens=120)
    requests = [
        TeacherRequest(str(n), (("user", '"instruction": "task 1."' * n),)) for n in (1, 200, 4)
    ]
    first, too_long, third = teacher.answer(requests)
    assert isinstance(too_long, RequestFailedError) and "the teacher reads 1024" in str(too_long)
    assert isinstance(first, TeacherAnswer) and isinstance(third, TeacherAnswer)
    assert json.loads(first.text) == ANSWER and first.finish_reason == "stop"
    assert [first, third] == [
        teacher.answer([request])[0] for request in (requests[0], requests[2])
    ]
    assert first.num_prompt_tokens < third.num_prompt_tokens
    length = len(teacher.tokenizer(json.dumps(ANSWER), add_special_tokens=False).input_ids)
    assert first.num_completion_tokens == length + 1
    sampled = LocalTeacher(str(teacher_folder), batch_size=1, max_tokens=30, temperature=3.0)
    texts = [sampled.answer([requests[0]])[0] for _ in range(2)]
    assert texts[0] == texts[1] != first


def test_a_base_model_is_refused(tmp_path: Path) -> None:
    from ift_lightning.config.entry import PACKAGE_DIR
    from ift_lightning.teaching.local_teacher import LocalTeacher

    with pytest.raises(UserError, match="no chat template"):
        LocalTeacher(str(PACKAGE_DIR / "assets" / "tiny"))
