"""Written reasoning that leads from a task to its answer, at three levels of detail."""

from __future__ import annotations

from typing import Any

from ift_lightning.data.drills.composition import Composition, trace
from ift_lightning.data.drills.wording import capitalized


def write_reasoning(
    steps: Composition, parameter: str, example: Any, remark: str = ""
) -> dict[str, str]:
    """Return the reasoning of a task by level.

    Args:
        steps: the composition.
        parameter: the function's parameter.
        example: an argument to work through.
        remark: a sentence that opens every level, such as where a defect is; "" for none.

    Returns:
        "simple": one sentence; "normal": a line a step; "complex": every step with what it makes
        of ``example``.
    """
    phrases = [step.phrase() for step in steps]
    opening = [remark] if remark else []
    head = f"{remark.rstrip('.')}; the function" if remark else "The function"
    normal = [f"{number}. {capitalized(phrase)}." for number, phrase in enumerate(phrases, 1)]
    complex_lines = [f"Example: {parameter} = {example!r}."]
    value = example
    for number, (phrase, result) in enumerate(zip(phrases, trace(steps, example), strict=True), 1):
        complex_lines.append(f"Step {number}: {phrase}. {value!r} becomes {result!r}.")
        value = result
    complex_lines.append(f"The result is {value!r}.")
    return {
        "simple": f"{head} has to {', then '.join(phrases)}.",
        "normal": "\n".join(opening + normal),
        "complex": "\n".join(opening + complex_lines),
    }
