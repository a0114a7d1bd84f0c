"""What goes to a teacher, and what comes back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ift_lightning.errors import UserError
from ift_lightning.types import json_fingerprint


@dataclass(frozen=True, slots=True)
class TeacherRequest:
    """One question about one row."""

    row_id: str
    messages: tuple[tuple[str, str], ...]  # (role, content)
    attempt: int = 0  # asked again after a bad answer: 1, 2, …

    def chat(self) -> list[dict[str, str]]:
        """Return the messages as a chat endpoint and a chat template take them."""
        return [{"role": role, "content": content} for role, content in self.messages]

    def fingerprint(self, teacher_key: Any) -> str:
        """Identify the request; ``teacher_key`` is all that its answer depends on besides."""
        return json_fingerprint([teacher_key, self.row_id, self.messages, self.attempt])


@dataclass(frozen=True, slots=True)
class TeacherAnswer:
    """An answer as it came, before anything is made of it."""

    text: str
    finish_reason: str | None  # "stop", "length", "content_filter", …; None where it is not said
    num_prompt_tokens: int = 0
    num_completion_tokens: int = 0


class RequestFailedError(Exception):
    """One request got no answer; the row is reported and can be asked about again."""

    def __init__(self, message: str, *, server_is_down: bool = False) -> None:
        super().__init__(message)
        self.server_is_down = server_is_down  # it may well be that no request gets one


class TeacherUnusableError(UserError):
    """No request can get an answer: a wrong key, model or address, or a server that is gone."""


class StoppedError(Exception):
    """The run was told to stop while this request waited to be sent again."""


class Teacher(Protocol):
    """Something that answers requests."""

    key: Any
    """JSON value of everything that an answer depends on, apart from the request."""
    num_workers: int
    """Calls of :meth:`answer` that may run at the same time."""
    batch_size: int
    """Requests of one call, at most."""

    def answer(
        self, requests: Sequence[TeacherRequest]
    ) -> list[TeacherAnswer | RequestFailedError]:
        """Return an answer to each request, or why there is none.

        Raises:
            TeacherUnusableError: Asking on makes no sense.
            StoppedError: :meth:`stop` was called before a request was sent.
        """
        ...

    def stop(self) -> None:
        """Send nothing more; what is on its way is still waited for."""
        ...
