"""A teacher behind an OpenAI-compatible chat endpoint: OpenAI, vLLM, ``transformers serve``, …"""

from __future__ import annotations

import email.utils
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import openai

from ift_lightning.errors import UserError
from ift_lightning.teaching.exchange import (
    RequestFailedError,
    StoppedError,
    TeacherAnswer,
    TeacherRequest,
    TeacherUnusableError,
)

_RETRIED = frozenset({408, 409, 425, 429})  # and everything from 500 on
_UNUSABLE = {
    401: "the key is refused",
    402: "the account has to be paid",
    403: "the key may not do this",
    404: "there is no such model or address",
}


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and when a request is sent again. Waiting times are in seconds."""

    max_retries: int = 6  # after the first try
    first_wait: float = 1.0  # doubles with every retry
    max_wait: float = 60.0  # also of what a server's Retry-After asks for

    def wait(self, num_retries: int, retry_after: float | None) -> float:
        """Return the seconds to wait before the retry after ``num_retries`` earlier ones."""
        if retry_after is not None:
            return min(retry_after, self.max_wait)
        # Jitter, so that requests refused together do not come back together.
        return min(self.first_wait * 2.0**num_retries, self.max_wait) * random.uniform(0.5, 1.0)


class _Retry(Exception):
    """Something that may go away by itself."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class OpenAITeacher:
    """Asks a server, with retries, for as many answers at once as there are workers.

    Args:
        model: Name of the model on the server.
        base_url: Address that ends before ``/chat/completions``; None for OpenAI's own.
        api_key: Sent as a bearer token. It is part of no message, journal or report.
        max_tokens: Tokens of an answer, at most.
        max_tokens_field: Name of that limit in the request; newer models of OpenAI want
            ``max_completion_tokens``.
        temperature: Of sampling; None for the server's own.
        top_p: Of sampling; None for the server's own.
        options: Further fields of the request's body.
        concurrency: Requests in flight at the same time.
        timeout: Seconds that a server may be silent before a request counts as lost.
        retry: When a request is sent again.
        on_retry: Takes the reason of every retry; threads call it.

    Raises:
        UserError: A value is out of range.
    """

    batch_size = 1

    def __init__(
        self,
        model: str,
        *,
        base_url: str | None = None,
        api_key: str = "none",
        max_tokens: int = 2048,
        max_tokens_field: str = "max_tokens",
        temperature: float | None = None,
        top_p: float | None = None,
        options: Mapping[str, Any] | None = None,
        concurrency: int = 8,
        timeout: float = 300.0,
        retry: RetryPolicy | None = None,
        on_retry: Callable[[str], None] | None = None,
    ) -> None:
        if concurrency < 1:
            raise UserError(f"teacher.concurrency={concurrency} has to be at least 1")
        if timeout <= 0:
            raise UserError(f"teacher.timeout_seconds={timeout} has to be above 0")
        self.model = model
        self.num_workers = concurrency
        sampling = {"temperature": temperature, "top_p": top_p, max_tokens_field: max_tokens}
        self._body = {name: value for name, value in sampling.items() if value is not None}
        self._body |= dict(options or {})
        self.key = ["openai", model, self._body]
        self._retry = retry or RetryPolicy()
        self._on_retry = on_retry or (lambda reason: None)
        self._stopped = threading.Event()
        # Retries are ours: the client's own would be neither counted nor interruptible.
        self._client = openai.OpenAI(
            base_url=base_url, api_key=api_key, timeout=timeout, max_retries=0
        )

    def stop(self) -> None:
        """Send nothing more, and end the waiting between retries."""
        self._stopped.set()

    def answer(
        self, requests: Sequence[TeacherRequest]
    ) -> list[TeacherAnswer | RequestFailedError]:
        """Return an answer to each request, or why there is none."""
        return [self._answer(request) for request in requests]

    def _answer(self, request: TeacherRequest) -> TeacherAnswer | RequestFailedError:
        num_retries = 0
        while True:
            if self._stopped.is_set():
                raise StoppedError
            try:
                return self._send(request)
            except RequestFailedError as error:
                return error
            except _Retry as problem:
                if num_retries >= self._retry.max_retries:
                    return RequestFailedError(
                        f"no answer after {num_retries + 1} tries; the last one: {problem}",
                        server_is_down=True,
                    )
                self._on_retry(str(problem))
                self._stopped.wait(self._retry.wait(num_retries, problem.retry_after))
                num_retries += 1

    def _send(self, request: TeacherRequest) -> TeacherAnswer:
        try:
            response = self._client.chat.completions.with_raw_response.create(
                model=self.model,
                messages=request.chat(),  # type: ignore[arg-type]
                extra_body=self._body,
            ).http_response
        except openai.APITimeoutError:
            raise _Retry("no answer within the timeout") from None
        except openai.APIConnectionError as error:
            raise _Retry(f"no connection ({error.__cause__ or error})") from error
        except openai.APIStatusError as error:
            raise self._explain_status(error) from error
        try:
            return _read_answer(response.json())
        except ValueError as error:
            raise _Retry(f"the server's answer cannot be read: {error}") from error

    def _explain_status(self, error: openai.APIStatusError) -> Exception:
        status, reason = error.status_code, _one_line(error.message)
        if status in _UNUSABLE or error.code == "insufficient_quota":
            what = _UNUSABLE.get(status, "the account has to be paid")
            return TeacherUnusableError(
                f"teacher.model={self.model} at {self._client.base_url}: {what} "
                f"(status {status}: {reason})"
            )
        if status in _RETRIED or status >= 500:
            return _Retry(f"status {status}: {reason}", _retry_after(error.response.headers))
        return RequestFailedError(f"the server refuses the request (status {status}: {reason})")


def _one_line(text: str) -> str:
    return " ".join(text.split())[:300]


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that a server asks to wait for, given as a number or as a date."""
    text = headers.get("retry-after", "").strip()
    try:
        return max(float(text), 0.0)
    except ValueError:
        pass
    date = email.utils.parsedate_tz(text) if text else None
    return None if date is None else max(email.utils.mktime_tz(date) - time.time(), 0.0)


def _read_answer(body: Any) -> TeacherAnswer:
    """Return what the body of a response holds.

    Raises:
        ValueError: It holds no answer.
    """
    if not isinstance(body, Mapping):
        raise ValueError("it is no object")
    choices = body.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], Mapping):
        raise ValueError(f"it has no choice in it ({_one_line(str(body))[:120]})")
    choice = choices[0]
    message = choice.get("message")
    if not isinstance(message, Mapping):
        raise ValueError("its choice has no message")
    # A refusal has a field of its own in OpenAI's answers; as text, it is recognised as one.
    text = message.get("content") or message.get("refusal") or ""
    if not isinstance(text, str):
        raise ValueError("its message is no text")
    usage = body.get("usage")
    usage = usage if isinstance(usage, Mapping) else {}
    reason = "refusal" if message.get("refusal") else choice.get("finish_reason")
    return TeacherAnswer(
        text,
        str(reason) if reason is not None else None,
        num_prompt_tokens=_count(usage.get("prompt_tokens")),
        num_completion_tokens=_count(usage.get("completion_tokens")),
    )


def _count(value: Any) -> int:
    return value if isinstance(value, int) else 0
