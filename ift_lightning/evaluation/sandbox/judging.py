"""From what came back out of the sandbox to a verdict."""

from __future__ import annotations

import json
import signal
from typing import Any

from ift_lightning.evaluation.sandbox.expectations import Expectation, TestPlan, meets
from ift_lightning.evaluation.sandbox.inside import wire
from ift_lightning.evaluation.sandbox.outcomes import Outcome, Program, SandboxLimits, Verdict

_SHOWN = 200  # characters of a value
_TIME_SIGNALS = {f"signal {signal.SIGXCPU.value}"}


def request_for(program: Program, plan: TestPlan) -> dict[str, Any]:
    """Return what the sandbox is asked: inputs, and no expected value."""
    return {
        "code": program.code,
        "entry": program.entry_point,
        "calls": [
            [wire.encode(list(item.arguments)), wire.encode(dict(item.keywords))]
            for item in plan.expectations
        ],
        "judge": plan.statements,
    }


def judge(
    program: Program, plan: TestPlan, answer: dict[str, Any], limits: SandboxLimits
) -> Outcome:
    """Return the outcome of a program.

    Args:
        program: What was run.
        plan: Its tests.
        answer: What the sandbox answered.
        limits: What it was run under.
    """
    frames = _read_frames(answer["frames"])
    statements = plan.statements is not None
    first, rest = (frames[0], frames[1:]) if frames else (None, [])
    found: list[tuple[Verdict, str]] = []
    if first is not None and first[0] != "loaded":
        found.append(_not_loaded(first))
    elif first is not None:
        for index in range(min(plan.num_tests, len(rest))):
            if statements:
                found.append(_statement_verdict(rest[index], plan.statements or [], index))
            else:
                found.append(_value_verdict(rest[index], plan.expectations[index], program, limits))
    # A program that is done has answered every test; one that has not was ended, or ended itself.
    is_whole = first is not None and first[0] == "loaded" and len(rest) >= plan.num_tests
    ended = _end_verdict(answer["end"], limits)
    if not is_whole and first is not None and first[0] != "loaded":
        pass
    elif not is_whole or ended is not None:
        found.append(ended or (Verdict.ERROR, "it ended before it answered"))
    problem = next((item for item in found if item[0] is not Verdict.PASS), None)
    num_passed = sum(verdict is Verdict.PASS for verdict, _ in found)
    return Outcome(
        id=program.id,
        verdict=Verdict.PASS if problem is None else problem[0],
        executed=all(verdict in (Verdict.PASS, Verdict.FAIL) for verdict, _ in found),
        num_passed=min(num_passed, plan.num_tests),
        num_tests=plan.num_tests,
        detail="" if problem is None else problem[1],
        judged_in_child=statements,
        seconds=float(answer["seconds"]),
    )


def _read_frames(lines: list[str]) -> list[list[Any]]:
    """Return the frames up to the first that is none: what a program forges is no better."""
    frames: list[list[Any]] = []
    for line in lines:
        try:
            frame = json.loads(line)
        except (ValueError, RecursionError):
            break
        if not isinstance(frame, list) or not frame or not isinstance(frame[0], str):
            break
        frames.append(frame)
    return frames


def _not_loaded(frame: list[Any]) -> tuple[Verdict, str]:
    if frame[0] == "syntax":
        return Verdict.NO_CODE, _text(frame[1:])
    if frame[0] == "memory":
        return Verdict.MEMORY, "out of memory"
    return Verdict.ERROR, _text(frame[1:])


def _text(parts: list[Any]) -> str:
    words = [str(part)[:300] for part in parts if part]
    return ": ".join(words)


def _end_verdict(end: str, limits: SandboxLimits) -> tuple[Verdict, str] | None:
    if end == "timeout" or end in _TIME_SIGNALS:
        return Verdict.TIMEOUT, f"ran for more than {limits.seconds_per_program:g} s"
    if end == "output":
        return Verdict.ERROR, f"returned more than {limits.max_output_bytes:,} bytes"
    if end.startswith("signal "):
        number = int(end.split()[1])
        return Verdict.CRASH, f"ended by {_signal_name(number)}"
    return None


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _failed_call(frame: list[Any], program: Program) -> tuple[Verdict, str] | None:
    if frame[0] == "memory":
        return Verdict.MEMORY, "out of memory"
    if frame[0] == "absent":
        return Verdict.ERROR, f"the program does not define {program.entry_point or 'a function'}"
    if frame[0] == "error":
        return Verdict.ERROR, _text(frame[1:])
    return None


def _value_verdict(
    frame: list[Any], expectation: Expectation, program: Program, limits: SandboxLimits
) -> tuple[Verdict, str]:
    call = _shown_call(program, expectation)
    problem = _failed_call(frame, program)
    if problem is not None:
        return problem[0], f"{call} raised {problem[1]}" if frame[0] == "error" else problem[1]
    try:
        value = wire.decode(frame[1])
        met = meets(
            value,
            expectation,
            absolute=limits.absolute_tolerance,
            relative=limits.relative_tolerance,
        )
    except (ValueError, IndexError, RecursionError, OverflowError, TypeError):
        return Verdict.ERROR, f"{call} answered with nothing that can be read"
    if met:
        return Verdict.PASS, ""
    return Verdict.FAIL, f"{call} returned {_shown(value)}, not {_shown(expectation.expected)}"


def _shown(value: Any) -> str:
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # an integer of thousands of digits
        text = f"<{type(value).__name__}>"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _shown_call(program: Program, expectation: Expectation) -> str:
    arguments = [_shown(argument) for argument in expectation.arguments]
    arguments += [f"{name}={_shown(value)}" for name, value in expectation.keywords.items()]
    return f"{program.entry_point}({', '.join(arguments)})"


def _statement_verdict(frame: list[Any], statements: list[str], index: int) -> tuple[Verdict, str]:
    kind = frame[0]
    if kind == "pass":
        return Verdict.PASS, ""
    if kind == "fail":
        said = f": {frame[1]}" if len(frame) > 1 and frame[1] else ""
        lines = statements[index].strip().splitlines()
        shown = _shown_statement(lines[0]) if len(lines) == 1 else "an assertion"
        return Verdict.FAIL, f"{shown} does not hold{said}"
    if kind == "memory":
        return Verdict.MEMORY, "out of memory"
    if kind == "gone":
        return Verdict.ERROR, "it ended before it answered"
    return Verdict.ERROR, _text(frame[1:])


def _shown_statement(line: str) -> str:
    return line if len(line) <= _SHOWN else f"{line[:_SHOWN]}…"
