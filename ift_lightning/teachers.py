"""Config -> the teacher that writes reasoning, and what judges its code."""

from __future__ import annotations

import os
import threading
from typing import Any

from ift_lightning.config.teaching_schema import TeacherConfig, TeacherKind
from ift_lightning.errors import UserError
from ift_lightning.evaluation.sandbox import Program, Sandbox, Verdict
from ift_lightning.teaching.exchange import Teacher
from ift_lightning.types import InstructionRecord


class SandboxCheck:
    """Runs the tests of rows on code of a teacher, inside a sandbox; threads may share it.

    Args:
        sandbox: Entered, and used by nobody else.
    """

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self._lock = threading.Lock()

    def __call__(self, record: InstructionRecord, code: str) -> str | None:
        """Return why the code does not pass the row's tests, or None where it does."""
        program = Program(record.id, code, record.entry_point, record.tests)
        with self._lock:
            (outcome,) = self.sandbox.run([program])
        return None if outcome.verdict is Verdict.PASS else f"{outcome.verdict}, {outcome.detail}"


def build_teacher(config: TeacherConfig, bar: Any | None = None) -> Teacher:
    """Return the teacher of a config.

    Args:
        config: The teacher.
        bar: A progress bar, which shows the last reason for a retry.

    Raises:
        UserError: There is no key or no model, or the two do not go together.
    """
    if not config.model:
        what = "a model's folder" if config.kind is TeacherKind.local else "its name on the server"
        raise UserError(f"teacher={config.name} needs a model: teacher.model=NAME ({what})")
    sampling = {
        "max_tokens": config.max_tokens,
        "temperature": config.temperature,
        "top_p": config.top_p,
    }
    if config.kind is TeacherKind.local:
        from ift_lightning.teaching.local_teacher import LocalTeacher

        return LocalTeacher(
            config.model,
            revision=config.revision,
            dtype=config.dtype,
            batch_size=config.batch_size,
            trust_remote_code=config.trust_remote_code,
            **sampling,  # type: ignore[arg-type]
        )
    from ift_lightning.teaching.openai_teacher import OpenAITeacher, RetryPolicy

    if config.base_url is not None and "@" in config.base_url.split("?")[0]:
        raise UserError(
            "teacher.base_url has a password in it, which reports would show; leave it out, and "
            f"put the key into the environment variable {config.api_key_env}"
        )
    key = os.environ.get(config.api_key_env, "").strip()
    if not key and config.base_url is None:
        raise UserError(
            f"teacher={config.name} without teacher.base_url is OpenAI's own server, which wants a "
            f"key: put it into the environment variable {config.api_key_env}, or name a server of "
            "your own, such as teacher.base_url=http://127.0.0.1:8000/v1"
        )
    return OpenAITeacher(
        config.model,
        base_url=config.base_url,
        api_key=key or "none",
        max_tokens_field=config.max_tokens_field,
        options=config.options,
        concurrency=config.concurrency,
        timeout=config.timeout_seconds,
        retry=RetryPolicy(config.max_retries, config.retry_seconds, config.max_retry_seconds),
        on_retry=None if bar is None else lambda reason: bar.set_postfix_str(f"retry: {reason}"),
        **sampling,  # type: ignore[arg-type]
    )
