"""Source code of a composition: names, forms of the steps, comments and docstrings."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from ift_lightning.data.drills.operation import Step

_INDENT = "    "
# What a loop collects into is called after what it is.
_LOOP_NAMES = {"ints": "output", "words": "output", "text": "output", "number": "total"}


@dataclass(frozen=True, slots=True)
class StepCode:
    """The lines of one step, without indentation, and the comment that belongs above them."""

    lines: tuple[str, ...]
    comment: str


@dataclass(frozen=True, slots=True)
class FunctionCode:
    """A function, step by step, before it is written out.

    The last step's lines end in the ``return``.
    """

    name: str
    parameter: str
    steps: tuple[StepCode, ...]

    def source(
        self,
        *,
        docstring: str = "",
        comments: bool = False,
        todo: int | None = None,
    ) -> str:
        """Return the source text, which ends without a newline.

        Args:
            docstring: text of the docstring (with its own line breaks), or empty for none.
            comments: whether each step has its comment.
            todo: index of a step that is replaced by a ``TODO`` comment, if any.
        """
        lines = []
        if docstring:
            lines += f'"""{docstring}"""'.split("\n")
        for index, step in enumerate(self.steps):
            if index == todo:
                lines.append(f"# TODO: {step.comment}")
                continue
            if comments:
                lines.append(f"# {step.comment}")
            lines += step.lines
        body = "\n".join(_INDENT + line if line else line for line in lines)
        return f"def {self.name}({self.parameter}):\n{body}"


def build_function(
    steps: Sequence[Step],
    name: str,
    parameter: str,
    rng: random.Random,
    phrases: Sequence[str] | None = None,
    loop_share: float = 0.15,
) -> FunctionCode:
    """Choose the forms of the steps and return the function.

    Args:
        steps: the composition.
        name: the function's name.
        parameter: the name of its one parameter.
        rng: source of randomness, for the choice between equivalent forms.
        phrases: the steps' comments; None for each operation's first wording.
        loop_share: probability that a step with a loop form is written as a loop.

    Returns:
        A function whose steps either rebind the parameter or go through ``result``.
    """
    inner = parameter if rng.random() < 0.3 else "result"
    current = parameter
    codes = []
    for index, step in enumerate(steps):
        is_last = index == len(steps) - 1
        operation = step.operation
        if operation.loop and rng.random() < loop_share:
            target = _LOOP_NAMES[operation.target]
            # A loop must not collect into the name it reads from.
            if target == current:
                target = "kept" if operation.target != "number" else "amount"
            template = step.fill(operation.loop)
            lines = template.replace("$v", current).replace("$o", target).split("\n")
            current = target
            if is_last:
                lines.append(f"return {current}")
        else:
            expression = step.fill(operation.expression).replace("$v", current)
            lines = [f"return {expression}" if is_last else f"{inner} = {expression}"]
            current = inner
        comment = phrases[index] if phrases is not None else step.phrase()
        codes.append(StepCode(tuple(lines), comment))
    return FunctionCode(name, parameter, tuple(codes))
