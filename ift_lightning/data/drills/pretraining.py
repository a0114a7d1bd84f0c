"""Plain text for pretraining a base model: functions and what people write around them.

Everything that an instruction may state later (the function's name, the parameter's name, the
steps and their parameters) stands in the text before the code that uses it, so that a model learns
to copy it. No text has the form of an instruction, and no held-out composition occurs.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from ift_lightning.data.drills.composition import (
    DRILLS_VERSION,
    MAX_STEPS,
    Composition,
    sample_composition,
)
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

DEFAULT_STEP_WEIGHTS = (30.0, 30.0, 25.0, 10.0, 5.0)


# How often each form of text is drawn; see the functions of these names. Descriptions are followed
# by code no more often than by the next description: a base model is not one that answers.
_FORM_SHARES = {
    "docstring": 27, "described": 27, "catalogue": 20, "listed": 8, "revised": 10, "chinese": 4,
    "bare": 4,
}  # fmt: skip
_NAME_LABELS = ("name", "function", "func", "def", "symbol", "entry", "routine", "call", "id")
_PARAMETER_LABELS = ("parameter", "argument", "arg", "input", "takes", "param", "given", "of")
_STEP_LABELS = (
    "steps",
    "does",
    "body",
    "plan",
    "what it does",
    "behaviour",
    "doc",
    "rule",
    "to do",
)
_SEPARATORS = (": ", " = ", " - ", ":\n", " -> ", ", ")
_QUOTES = ("", "", "`", "'", '"', "**")
_HEADINGS = ("", "", "", "# ", "## ", "* ", "> ", "- ", "// ", "| ", "[ ] ", "1) ")


def docstring_text(phrases: Sequence[str], rng: random.Random) -> str:
    """Return the text of a docstring that lists the steps: a sentence or a numbered list."""
    if len(phrases) > 1 and rng.random() < 0.3:
        return f"Steps:\n{numbered(phrases)}\n"
    return capitalized(sentence(phrases, rng)) + "."


@dataclass(frozen=True, slots=True)
class _Subject:
    """The function that a text is about."""

    steps: Composition
    code: FunctionCode
    phrases: list[str]

    @property
    def call(self) -> str:
        return f"{self.code.name}({self.code.parameter})"


def _sample_subject(rng: random.Random, num_steps_weights: Sequence[float]) -> _Subject:
    steps = sample_composition(rng, "train", num_steps_weights)
    parameter = parameter_name(steps[0].operation.source, rng)
    code = build_function(steps, function_name(rng), parameter, rng)
    return _Subject(steps, code, step_phrases(steps, rng))


def _quoted(text: str, rng: random.Random) -> str:
    quote = rng.choice(_QUOTES)
    return f"{quote}{text}{quote}"


def _summary(subject: _Subject, rng: random.Random) -> str:
    """Return the steps as a sentence or, now and then, as a numbered list below a line break."""
    if rng.random() < 0.35:
        return "\n" + numbered(subject.phrases)
    text = sentence(subject.phrases, rng)
    return rng.choice((text, text + ".", capitalized(text) + "."))


def _fields(subject: _Subject, rng: random.Random) -> str:
    """Return labelled fields in any order, so that no single layout is learnt by heart."""
    source = TYPE_PHRASES[subject.steps[0].operation.source]
    name, parameter = subject.code.name, subject.code.parameter
    fields = [
        (rng.choice(_NAME_LABELS), _quoted(rng.choice((name, subject.call)), rng)),
        (rng.choice(_STEP_LABELS), _summary(subject, rng)),
        (rng.choice(_PARAMETER_LABELS),
         rng.choice((_quoted(parameter, rng), f"{parameter} ({source})", f"{source} {parameter}"))),
    ]  # fmt: skip
    rng.shuffle(fields)
    separator, heading = rng.choice(_SEPARATORS), rng.choice(_HEADINGS)
    change_case = rng.choice((str, str.capitalize, str.upper))
    joiner = rng.choice(("\n", "\n", "\n\n", "; ", " "))
    return joiner.join(f"{heading}{change_case(label)}{separator}{text}" for label, text in fields)


def _prose(subject: _Subject, rng: random.Random) -> str:
    """Return a line or a paragraph about the function, as in comments and reference pages."""
    source = TYPE_PHRASES[subject.steps[0].operation.source]
    target = TYPE_PHRASES[subject.steps[-1].operation.target]
    name, parameter = subject.code.name, subject.code.parameter
    summary, call = _summary(subject, rng), _quoted(subject.call, rng)
    return rng.choice(
        (
            f"{call}: {summary}",
            f"{call} takes {source} and returns {target}: {summary}",
            f"{_quoted(name, rng)} takes {source} {parameter}: {summary}",
            f"{call}\n\n{summary}\nTakes {source}.",
            f"{call} - {summary}",
            f"With {source} {_quoted(parameter, rng)}, {name} has to {summary}",
            f"{summary}\nThis is {call}.",
            f"The function {_quoted(name, rng)} has one parameter, {parameter}. {summary}",
            f"From {source} called {parameter} {name} makes {target}: {summary}",
        )
    )


def _comment(text: str) -> str:
    return "# " + text.replace("\n", "\n# ")


def _described(subject: _Subject, rng: random.Random) -> str:
    """Return a description followed by the code."""
    text = _fields(subject, rng) if rng.random() < 0.5 else _prose(subject, rng)
    if rng.random() < 0.25:
        text = _comment(text)
    gap = rng.choice(("\n", "\n", "\n\n", "\n---\n", "\nCode:\n", "\n>>>\n", "\n\n\n"))
    return text + gap + subject.code.source(comments=rng.random() < 0.7)


def _docstring(subject: _Subject, rng: random.Random) -> str:
    """Return the code with a docstring that lists the steps."""
    docstring = docstring_text(subject.phrases, rng)
    return subject.code.source(docstring=docstring, comments=rng.random() < 0.3)


def _revised(subject: _Subject, rng: random.Random) -> str:
    """Return the code twice, with and without comments, which teaches copying code."""
    first, second = subject.code.source(comments=True), subject.code.source()
    if rng.random() < 0.7:
        first, second = second, first
    between = rng.choice(("\n\n", "\n\n", "\n---\n", "\n\n" + _prose(subject, rng) + "\n\n"))
    return first + between + second


def _chinese(subject: _Subject, rng: random.Random) -> str:
    """Return a Chinese comment followed by the code."""
    summary = "，再".join(step.fill(step.operation.chinese) for step in subject.steps)
    return f"# {subject.call}：{summary}。\n{subject.code.source(comments=rng.random() < 0.3)}"


def _bare(subject: _Subject, rng: random.Random) -> str:
    """Return code alone."""
    return subject.code.source(comments=rng.random() < 0.5)


def _listed(rng: random.Random) -> str:
    """Return an index of several short functions and then their code in another order."""
    subjects = [_sample_subject(rng, (1.0,)) for _ in range(rng.randint(2, 3))]
    heading = rng.choice(_HEADINGS)
    index = "\n".join(
        f"{heading}{subject.call}: {sentence(subject.phrases, rng)}" for subject in subjects
    )
    rng.shuffle(subjects)
    comments = rng.random() < 0.5
    return "\n\n".join([index] + [subject.code.source(comments=comments) for subject in subjects])


_FORMS: dict[str, Callable[[_Subject, random.Random], str]] = {
    "docstring": _docstring, "described": _described, "revised": _revised, "chinese": _chinese,
    "bare": _bare,
}  # fmt: skip


def _catalogue(rng: random.Random, num_steps_weights: Sequence[float]) -> str:
    """Return descriptions of several functions and no code, as in notes and reference pages."""
    write = rng.choice((_fields, _prose))
    joiner = rng.choice(("\n", "\n\n", "\n\n", "\n---\n", "\n\n\n"))
    subjects = [_sample_subject(rng, num_steps_weights) for _ in range(rng.randint(2, 4))]
    return joiner.join(write(subject, rng) for subject in subjects)


def _text(rng: random.Random, num_steps_weights: Sequence[float]) -> str:
    form = rng.choices(list(_FORM_SHARES), list(_FORM_SHARES.values()))[0]
    if form == "listed":
        return _listed(rng)
    if form == "catalogue":
        return _catalogue(rng, num_steps_weights)
    return _FORMS[form](_sample_subject(rng, num_steps_weights), rng)


def generate_pretraining_texts(
    num_texts: int,
    seed: int = 0,
    max_steps: int = MAX_STEPS,
    step_weights: Sequence[float] = DEFAULT_STEP_WEIGHTS,
) -> Iterator[str]:
    """Yield texts, each about one function, or a few, of the train split.

    Args:
        num_texts: number of texts.
        seed: the same seed gives the same texts; a larger ``num_texts`` only adds to them.
        max_steps: largest number of steps of a function, 1 to 5; a curriculum raises it.
        step_weights: relative frequency of 1, 2, ... steps.

    Returns:
        An iterator of texts that end in a newline.

    Raises:
        ValueError: if ``max_steps`` is not between 1 and 5.
    """
    if not 1 <= max_steps <= MAX_STEPS:
        raise ValueError(f"max_steps must be 1 to {MAX_STEPS}, not {max_steps}.")
    rng = random.Random(f"{DRILLS_VERSION}-pretraining-{seed}-{max_steps}")
    for _ in range(num_texts):
        yield _text(rng, step_weights[:max_steps]) + "\n"
