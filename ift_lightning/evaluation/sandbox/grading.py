"""What came back from the sandbox -> an outcome."""

from __future__ import annotations

import hmac
import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ift_lightning.evaluation.sandbox.comparison import short
from ift_lightning.evaluation.sandbox.inside import wire
from ift_lightning.evaluation.sandbox.test_plan import SourceTest, Test
from ift_lightning.evaluation.sandbox.types import (
    MAX_DETAIL,
    Outcome,
    Program,
    Tolerance,
    Verdict,
)


@dataclass(frozen=True)
class Reply:
    """What a worker brings back for one program. The byte strings are not to be trusted."""

    candidate_status: int | None  # of wait(2); None where the process was stopped by a limit
    stopped: str | None  # "timeout", "memory" or "output"
    seconds: float
    candidate_bytes: bytes
    judge_bytes: bytes


@dataclass(frozen=True)
class _Failure:
    verdict: Verdict
    detail: str
    ran: bool = False  # whether the code did its part without an error


def grade(
    program: Program, tests: Sequence[Test], reply: Reply, word: str, tolerance: Tolerance
) -> Outcome:
    """Return the outcome of a program.

    Args:
        program: What was run.
        tests: Its tests, in order.
        reply: What the worker brought back.
        word: What the judge signs its verdicts with.
        tolerance: For floats.
    """
    messages = [_message(payload) for payload in wire.split_frames(reply.candidate_bytes)]
    loaded = _load_failure(messages)
    results: list[_Failure | None] = []
    if loaded is None:
        results = _test_failures(tests, messages[2:], _judged(reply.judge_bytes, word), tolerance)
    ended = _end_failure(reply)
    failures = [failure for failure in (ended, loaded, *results) if failure is not None]
    first = failures[0] if failures else None
    return Outcome(
        id=program.id,
        verdict=first.verdict if first else Verdict.PASS,
        executed=all(failure.ran for failure in failures),
        num_passed=sum(result is None for result in results),
        num_tests=len(tests),
        detail=_one_line(first.detail) if first else "",
        judged_in_child=any(isinstance(test, SourceTest) for test in tests),
        seconds=reply.seconds,
    )


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    line = line.encode("utf-8", "replace").decode()
    return line if len(line) <= MAX_DETAIL else line[: MAX_DETAIL - 1] + "…"


def setup_failure(reply: Reply) -> str | None:
    """Return why a program could not even be started; None where it was."""
    frames = wire.split_frames(reply.candidate_bytes)
    message = _message(frames[0]) if frames else {}
    if "ready" in message:
        return None
    if reply.stopped:
        return None  # out of time before the first line: the limit is at fault, not the sandbox
    return str(message.get("setup", "the process ended before it began"))


def _message(payload: bytes) -> Mapping[str, Any]:
    try:
        message = wire.load(payload)
    except wire.WireError:
        return {}
    return message if isinstance(message, dict) else {}


def _end_failure(reply: Reply) -> _Failure | None:
    if reply.stopped == "timeout":
        return _Failure(Verdict.TIMEOUT, f"stopped after {reply.seconds:.1f} s")
    if reply.stopped == "memory":
        return _Failure(Verdict.MEMORY, "its processes together went over the memory limit")
    if reply.stopped == "output":
        return _Failure(Verdict.ERROR, "it sent back more than is allowed")
    status = reply.candidate_status
    if status is None or not os.WIFSIGNALED(status):
        return None
    number = os.WTERMSIG(status)
    if number == signal.SIGXCPU:
        return _Failure(Verdict.TIMEOUT, "stopped by the limit on processor time")
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    return _Failure(Verdict.CRASH, f"ended by {name}")


def _load_failure(messages: Sequence[Mapping[str, Any]]) -> _Failure | None:
    if len(messages) < 2:
        return _Failure(Verdict.ERROR, "the code ended the process while it was loaded")
    if "no_code" in messages[1]:
        return _Failure(Verdict.NO_CODE, str(messages[1]["no_code"]))
    if "raised" in messages[1]:
        return _raised(messages[1]["raised"], "loading the code")
    return None


def _raised(raised: Any, where: str) -> _Failure:
    if not isinstance(raised, dict):
        raised = {}
    name, message = str(raised.get("type", "error")), str(raised.get("message", ""))
    kinds = raised.get("kinds", [])
    is_memory = isinstance(kinds, list) and "MemoryError" in kinds
    verdict = Verdict.MEMORY if is_memory else Verdict.ERROR
    if name == "OutputLimit":
        return _Failure(verdict, f"{where}: {message}")
    return _Failure(
        verdict, f"{where} raised {name}: {message}" if message else f"{where} raised {name}"
    )


def _test_failures(
    tests: Sequence[Test],
    messages: Sequence[Mapping[str, Any]],
    verdicts: Mapping[int, Mapping[str, Any]],
    tolerance: Tolerance,
) -> list[_Failure | None]:
    results: list[_Failure | None] = []
    num_data, num_judged = 0, 0
    for number, test in enumerate(tests):
        where = f"test {number + 1} of {len(tests)}"
        if isinstance(test, SourceTest):
            results.append(_judged_failure(verdicts.get(num_judged), where))
            num_judged += 1
            continue
        message = messages[num_data] if num_data < len(messages) else None
        results.append(_data_failure(test, message, where, tolerance))
        num_data += 1
    return results


def _data_failure(
    test: Any, message: Mapping[str, Any] | None, where: str, tolerance: Tolerance
) -> _Failure | None:
    calls = ", ".join(f"{call.name}(...)" for call in test.calls)
    if message is None:
        return _Failure(Verdict.ERROR, f"{where}: the code ended the process early, in {calls}")
    if "raised" in message:
        return _raised(message["raised"], f"{where}: {calls}")
    try:
        returned = tuple(wire.decode(value) for value in message.get("value", ()))
    except (wire.WireError, TypeError, RecursionError):
        return _Failure(
            Verdict.FAIL, f"{where}: {calls} returned something that is no data", ran=True
        )
    if len(returned) != len(test.calls):
        return _Failure(Verdict.ERROR, f"{where}: {calls} sent back no value")
    problem = test.failure(returned, tolerance)
    return None if problem is None else _Failure(Verdict.FAIL, f"{where}: {problem}", ran=True)


def _judged(data: bytes, word: str) -> dict[int, Mapping[str, Any]]:
    """Return the judge's verdicts by index; what is not signed counts as not sent."""
    verdicts: dict[int, Mapping[str, Any]] = {}
    for payload in wire.split_frames(data):
        message = _message(payload)
        signature = message.get("word")
        if isinstance(signature, str) and hmac.compare_digest(signature.encode(), word.encode()):
            verdicts.setdefault(int(message["index"]), message)
    return verdicts


def _judged_failure(verdict: Mapping[str, Any] | None, where: str) -> _Failure | None:
    if verdict is None:
        return _Failure(Verdict.ERROR, f"{where}: the code or its judge ended before the verdict")
    raised = verdict["raised"]
    if raised is None:
        return None
    if raised.get("by_candidate"):
        return _raised(raised, where)
    line = raised.get("line") or short(raised.get("message", ""))
    detail = f"{where}: {line}"
    if raised["type"] != "AssertionError":
        detail += f" raised {raised['type']}: {raised.get('message', '')}"
    return _Failure(Verdict.FAIL, detail, ran=True)
