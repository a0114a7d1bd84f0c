"""Faults of a server are waited out, counted, or said; never taken for answers."""

from __future__ import annotations

import email.utils
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from teaching.fake_server import Reply, Seen, completion, serving

from ift_lightning.errors import UserError
from ift_lightning.teaching.exchange import (
    RequestFailedError,
    StoppedError,
    TeacherAnswer,
    TeacherRequest,
    TeacherUnusableError,
)
from ift_lightning.teaching.openai_teacher import OpenAITeacher, RetryPolicy, _retry_after

KEY = "sk-very-secret"
REQUEST = TeacherRequest("r", (("system", "s"), ("user", "u")))
QUICK = RetryPolicy(max_retries=3, first_wait=0.001, max_wait=0.01)


def teacher(url: str, **options: Any) -> OpenAITeacher:
    values = {"base_url": url, "api_key": KEY, "retry": QUICK, "timeout": 5.0, **options}
    return OpenAITeacher("big", **values)


def ask(behave: Callable[[int, Seen], Reply], **options: Any) -> tuple[Any, list[Seen], list[str]]:
    """Return the outcome of one request, what the server saw, and the reasons of retries."""
    reasons: list[str] = []
    with serving(behave) as server:
        (outcome,) = teacher(server.url, on_retry=reasons.append, **options).answer([REQUEST])
        return outcome, server.seen, reasons


def test_a_request_carries_what_it_should() -> None:
    outcome, (seen,), reasons = ask(
        lambda number, seen: completion("hello"),
        temperature=0.5,
        max_tokens=33,
        options={"seed": 7},
    )
    assert outcome == TeacherAnswer("hello", "stop", 100, 10)
    assert seen.path == "/v1/chat/completions"
    assert seen.headers["authorization"] == f"Bearer {KEY}"
    assert seen.body == {
        "model": "big",
        "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}],
        "temperature": 0.5,
        "max_tokens": 33,
        "seed": 7,
    }
    assert reasons == []


PASSING = {
    "429": Reply(429, {"error": {"message": "slow down"}}),
    "500": Reply(500, b"<html>oops</html>"),
    "503": Reply(503, {"error": {"message": "loading"}}),
    "408": Reply(408, {}),
    "half a JSON": Reply(200, b'{"choices": [{"message": {"content": "he'),
    "cut connection": Reply(200, b'{"choices": [{"mess', cut=True),
    "no choice": Reply(200, {"choices": []}),
    "empty choice": Reply(200, {"choices": [{}]}),
    "null choice": Reply(200, {"choices": [None]}),
    "no object": Reply(200, [1]),
    "empty body": Reply(200, b""),
    "dropped": Reply(drop=True),
    "hang": Reply(hang=True),
}


@pytest.mark.parametrize("name", PASSING)
def test_a_fault_that_passes_is_waited_out(name: str) -> None:
    outcome, seen, reasons = ask(
        lambda number, seen: completion("hello") if number == 2 else PASSING[name], timeout=0.3
    )
    assert outcome == TeacherAnswer("hello", "stop", 100, 10)
    assert len(seen) == 3 and len(reasons) == 2


@pytest.mark.parametrize("name", PASSING)
def test_a_fault_that_stays_is_no_answer(name: str) -> None:
    outcome, seen, reasons = ask(lambda number, seen: PASSING[name], timeout=0.2)
    assert isinstance(outcome, RequestFailedError) and outcome.server_is_down
    assert "no answer after 4 tries" in str(outcome)
    assert len(seen) == 4 and len(reasons) == 3
    assert KEY not in str(outcome)


def test_nobody_listening_is_no_answer() -> None:
    with serving(lambda number, seen: completion("x")) as server:
        url = server.url
    (outcome,) = teacher(url).answer([REQUEST])
    assert isinstance(outcome, RequestFailedError) and "no connection" in str(outcome)


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_request_that_is_refused_is_not_sent_again(status: int) -> None:
    outcome, seen, _ = ask(lambda number, seen: Reply(status, {"error": {"message": "too long"}}))
    assert isinstance(outcome, RequestFailedError) and not outcome.server_is_down
    assert f"status {status}" in str(outcome) and "too long" in str(outcome)
    assert len(seen) == 1


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_wrong_key_or_model_stops_everything(status: int) -> None:
    with pytest.raises(TeacherUnusableError) as error:
        ask(lambda number, seen: Reply(status, {"error": {"message": "no"}}))
    assert "teacher.model=big" in str(error.value) and KEY not in str(error.value)


def test_an_empty_account_stops_everything_though_it_comes_as_429() -> None:
    body = {"error": {"message": "pay", "code": "insufficient_quota"}}
    with pytest.raises(TeacherUnusableError, match="has to be paid"):
        ask(lambda number, seen: Reply(429, body))


def test_answers_that_are_bad_as_answers_are_handed_on() -> None:
    """They are paid for, so the journal has to get them; what they are worth is judged later."""
    for reply, expected in (
        (completion("", "stop"), TeacherAnswer("", "stop", 100, 10)),
        (completion(None, "stop"), TeacherAnswer("", "stop", 100, 10)),
        (completion("half", "length"), TeacherAnswer("half", "length", 100, 10)),
        (completion("x", None), TeacherAnswer("x", None, 100, 10)),
        (completion(None, "stop", refusal="No."), TeacherAnswer("No.", "refusal", 100, 10)),
    ):
        outcome, seen, _ = ask(lambda number, seen, reply=reply: reply)  # type: ignore[misc]
        assert outcome == expected and len(seen) == 1


def test_waiting_doubles_up_to_a_limit_and_gives_way_to_the_server() -> None:
    policy = RetryPolicy(first_wait=2.0, max_wait=10.0)
    for num_retries, longest in ((0, 2.0), (1, 4.0), (2, 8.0), (3, 10.0), (50, 10.0)):
        waits = [policy.wait(num_retries, None) for _ in range(200)]
        assert longest / 2 <= min(waits) < max(waits) <= longest
    assert policy.wait(0, 7.5) == 7.5
    assert policy.wait(0, 0.0) == 0.0
    assert policy.wait(0, 3600.0) == 10.0


def test_retry_after_is_read_as_a_number_or_a_date() -> None:
    assert _retry_after({"retry-after": "2.5"}) == 2.5
    assert _retry_after({"retry-after": "-1"}) == 0.0
    assert _retry_after({}) is None
    assert _retry_after({"retry-after": "soon"}) is None
    seconds = _retry_after({"retry-after": email.utils.formatdate(time.time() + 30, usegmt=True)})
    assert seconds is not None and 20 < seconds <= 30


def test_retry_after_of_the_server_is_what_is_waited(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float | None] = []
    monkeypatch.setattr(
        RetryPolicy, "wait", lambda self, retries, after: waits.append(after) or 0.0
    )
    refused = Reply(429, {}, headers={"Retry-After": "17"})
    ask(lambda number, seen: completion("x") if number else refused)
    assert waits == [17.0]


def test_stopping_ends_the_waiting_and_sends_nothing_more() -> None:
    with serving(lambda number, seen: Reply(500, {})) as server:
        asked = teacher(server.url, retry=RetryPolicy(5, first_wait=60.0))
        outcome: list[BaseException] = []

        def work() -> None:
            try:
                asked.answer([REQUEST])
            except StoppedError as error:
                outcome.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        while not server.seen:
            time.sleep(0.01)
        asked.stop()
        thread.join(20)
        assert len(outcome) == 1 and len(server.seen) == 1


@pytest.mark.parametrize("options", [{"concurrency": 0}, {"timeout": 0.0}])
def test_values_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="teacher."):
        teacher("http://127.0.0.1:1/v1", **options)
