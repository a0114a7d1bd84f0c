"""The five kinds of task that are made of a composition."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ift_lightning.data.drills.composition import (
    DRILLS_VERSION,
    Composition,
    check_split,
    sample_composition,
)
from ift_lightning.data.drills.inputs import make_tests
from ift_lightning.data.drills.mutations import SUBTYPES, inject, source_passes
from ift_lightning.data.drills.reasoning import write_reasoning
from ift_lightning.data.drills.rendering import FunctionCode, build_function
from ift_lightning.data.drills.wording import (
    TYPE_PHRASES,
    capitalized,
    function_name,
    numbered,
    parameter_name,
    sentence,
    step_phrases,
)
from ift_lightning.types import InstructionRecord

TASK_KINDS = {"implement": 40, "complete": 20, "repair": 20, "document": 10, "predict": 10}
"""Kinds of task, with their shares in percent. The answers of the first three are programs."""

RUNNABLE_KINDS = ("implement", "complete", "repair")
"""Kinds whose records carry an entry point and tests."""

STEP_WEIGHTS = (25, 35, 25, 10, 5)
_MAX_LITERAL = 40  # characters of a value that an answer has to spell out

# A scorer that only looks at the returned value cannot see a changed argument.
_REPAIRABLE = tuple(subtype for subtype in SUBTYPES if subtype != "mutated_input")


@dataclass(frozen=True, slots=True)
class Drill:
    """Everything that a task of any kind is made of."""

    steps: Composition
    code: FunctionCode
    tests: list[dict[str, Any]]
    phrases: list[str]  # the steps as the instruction words them

    @property
    def call(self) -> str:
        return f"{self.code.name}({self.code.parameter})"

    @property
    def source_phrase(self) -> str:
        return TYPE_PHRASES[self.steps[0].operation.source]

    @property
    def example(self) -> Any:
        """The ordinary argument that is shortest to write."""
        return min((test["args"][0] for test in self.tests[3:]), key=lambda value: len(repr(value)))


@dataclass(frozen=True, slots=True)
class _Texts:
    instruction: str
    output: str
    input: str = ""
    remark: str = ""  # opens the reasoning
    example: Any = None  # the argument that the reasoning works through; None for the drill's own


def sample_drill(
    rng: random.Random,
    split: str,
    loop_share: float = 0.15,
    step_weights: Sequence[float] = STEP_WEIGHTS,
) -> Drill:
    """Draw a composition of ``split`` that makes a good task, with its names, code and tests."""
    while True:
        steps = sample_composition(rng, split, step_weights)
        tests = make_tests(steps, rng)
        if tests is not None:
            break
    parameter = parameter_name(steps[0].operation.source, rng)
    code = build_function(steps, function_name(rng), parameter, rng, loop_share=loop_share)
    return Drill(steps, code, tests, step_phrases(steps, rng))


def _implement(drill: Drill, rng: random.Random) -> _Texts:
    name, parameter, source = drill.code.name, drill.code.parameter, drill.source_phrase
    summary, listing = sentence(drill.phrases, rng), numbered(drill.phrases)
    instruction = rng.choice(
        (
            f"Write a Python function `{drill.call}` that takes {source}. It should {summary}.",
            f"Implement `{drill.call}`, where {parameter} is {source}: {summary}.",
            f"Write a function {name} with the parameter {parameter} ({source}). Steps:\n{listing}",
            f"Define the Python function {drill.call}. It must {summary}.",
            f"Given {source} called {parameter}, {summary}. Name the function {name}.",
            f"Create the function `{drill.call}` with these steps:\n{listing}",
        )
    )
    return _Texts(instruction, drill.code.source(comments=True))


def _complete(drill: Drill, rng: random.Random) -> _Texts | None:
    todo = rng.randrange(len(drill.steps))
    given = drill.code.source(comments=True, todo=todo)
    if source_passes(given, drill.code.name, drill.tests):
        return None  # the step changes the type but, for these tests, not the outcome
    name, summary = drill.code.name, sentence(drill.phrases, rng)
    instruction = rng.choice(
        (
            f"Complete the TODO in the function `{name}`.",
            f"Replace the TODO in {drill.call} by code and return the whole function.",
            f"Finish the function {name}: one step is still a TODO.",
            f"Fill in the missing step of `{drill.call}`. It should {summary}.",
        )
    )
    remark = f"Step {todo + 1} is missing."
    return _Texts(instruction, drill.code.source(comments=True), given, remark)


def _repair(drill: Drill, rng: random.Random) -> _Texts | None:
    for subtype in rng.sample(_REPAIRABLE, len(_REPAIRABLE)):
        defect = inject(drill.code, drill.steps, subtype, drill.tests, rng)
        if defect is not None:
            break
    else:
        return None
    name, summary = drill.code.name, sentence(drill.phrases, rng)
    instruction = rng.choice(
        (
            f"Fix the bug in the function `{name}`. It should {summary}.",
            f"The function {drill.call} is broken. It is meant to {summary}. Repair it.",
            f"Correct `{name}` so that its steps are:\n{numbered(drill.phrases)}",
            f"This function has a defect. It should {summary}. Write it correctly.",
        )
    )
    remark = f"Step {defect.step + 1} is wrong: `{defect.wrong.strip()}`."
    return _Texts(instruction, drill.code.source(comments=True), defect.code.source(), remark)


def _document(drill: Drill, rng: random.Random) -> _Texts:
    name, call = drill.code.name, drill.call
    summary = capitalized(sentence([step.phrase() for step in drill.steps], rng)) + "."
    docstring_requests = (
        f"Write a docstring for the function `{name}`.",
        f"Document {call} in a docstring.",
    )
    comment_requests = (
        f"Write a comment that says what `{name}` does.",
        f"Explain {call} in a comment.",
    )
    if rng.random() < 0.5:
        request, output = rng.choice(docstring_requests), f'"""{summary}"""'
    else:
        request, output = rng.choice(comment_requests), f"# {summary}"
    return _Texts(request, output, drill.code.source())


def _predict(drill: Drill, rng: random.Random) -> _Texts | None:
    test = min(drill.tests[3:], key=lambda test: len(repr(test)))
    argument, output = test["args"][0], repr(test["expected"])
    if len(output) > _MAX_LITERAL:
        return None
    call = f"{drill.code.name}({argument!r})"
    request = rng.choice(
        (f"What does `{call}` return?", f"Give the value of {call}.", f"Work out {call}.")
    )
    return _Texts(request, output, drill.code.source(), example=argument)


_BUILDERS: dict[str, Callable[[Drill, random.Random], _Texts | None]] = {
    "implement": _implement, "complete": _complete, "repair": _repair,
    "document": _document, "predict": _predict,
}  # fmt: skip


def generate_drills_with_steps(
    split: str, num_records: int, seed: int = 0
) -> Iterator[tuple[InstructionRecord, Composition]]:
    """Yield what :func:`generate_drills` yields, each record with the composition it is made of."""
    check_split(split)
    rng = random.Random(f"{DRILLS_VERSION}-{split}-{seed}")
    kinds, shares = list(TASK_KINDS), list(TASK_KINDS.values())
    for index in range(num_records):
        kind = rng.choices(kinds, shares)[0]
        texts = None
        while texts is None:
            drill = sample_drill(rng, split)
            texts = _BUILDERS[kind](drill, rng)
        is_runnable = kind in RUNNABLE_KINDS
        example = drill.example if texts.example is None else texts.example
        reasoning = write_reasoning(drill.steps, drill.code.parameter, example, texts.remark)
        record = InstructionRecord(
            id=f"{DRILLS_VERSION}-{seed}-{split}-{index:06d}",
            instruction=texts.instruction,
            input=texts.input,
            output=texts.output,
            reasoning=reasoning,
            language="python",
            category=kind,
            subtype=f"{len(drill.steps)}_step" + ("s" if len(drill.steps) > 1 else ""),
            entry_point=drill.code.name if is_runnable else "",
            tests=drill.tests if is_runnable else (),
        )
        yield record, drill.steps


def generate_drills(split: str, num_records: int, seed: int = 0) -> Iterator[InstructionRecord]:
    """Yield drills of one split; the splits share no composition of operations.

    Args:
        split: "train", "val" or "test".
        num_records: number of records; a larger number only adds to the same records.
        seed: the same seed gives the same records.

    Returns:
        An iterator of records. ``category`` is the kind of task and ``subtype`` the number of
        steps; the kinds in :data:`RUNNABLE_KINDS` have an entry point and tests.

    Raises:
        ValueError: if there is no such split.
    """
    for record, _ in generate_drills_with_steps(split, num_records, seed):
        yield record
