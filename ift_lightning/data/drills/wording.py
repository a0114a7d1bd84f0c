"""Names and sentences: how a list of steps is put into words."""

from __future__ import annotations

import random
from collections.abc import Sequence

from ift_lightning.data.drills.operation import Step

_VERBS = (
    "make", "build", "get", "run", "apply", "compute", "find", "convert", "reduce", "collect",
    "handle", "process", "derive", "shape", "pick", "solve", "update", "extract", "prepare", "map",
    "clean", "scan", "fold", "form", "check", "parse", "render", "load", "merge", "trim",
)  # fmt: skip
_NOUNS = (
    "items", "values", "result", "data", "list", "record", "output", "answer", "report", "entries",
    "series", "sample", "batch", "summary", "field", "row", "table", "stream", "signal", "score",
    "index", "view", "key", "group", "block", "line", "part", "unit", "code", "node",
)  # fmt: skip
_SINGLE_NAMES = ("f", "g", "h", "solve", "task", "main", "helper", "transform", "func", "work")
_PARAMETERS = {
    "ints": ("nums", "numbers", "values", "items", "data", "xs", "seq", "arr"),
    "words": ("words", "names", "tokens", "parts", "items", "strings", "tags"),
    "text": ("text", "s", "line", "string", "name", "message", "title"),
    "number": ("n", "number", "num", "value", "amount", "size"),
    "counts": ("counts", "table", "scores", "mapping", "stock", "prices"),
}
TYPE_PHRASES = {
    "ints": "a list of integers",
    "words": "a list of strings",
    "text": "a string",
    "number": "an integer",
    "counts": "a dictionary from strings to integers",
    "flag": "a Boolean",
}


def function_name(rng: random.Random) -> str:
    """Return a name that says nothing about what the function does, so it has to be stated."""
    if rng.random() < 0.12:
        return rng.choice(_SINGLE_NAMES)
    return f"{rng.choice(_VERBS)}_{rng.choice(_NOUNS)}"


def parameter_name(source: str, rng: random.Random) -> str:
    """Return a parameter name that suits values of type ``source``."""
    return rng.choice(_PARAMETERS[source])


def step_phrases(steps: Sequence[Step], rng: random.Random) -> list[str]:
    """Return one wording, drawn at random, for each step."""
    return [step.phrase(rng.randrange(6)) for step in steps]


def sentence(phrases: Sequence[str], rng: random.Random) -> str:
    """Return the phrases as one running text, in one of several ways, without a full stop."""
    if len(phrases) == 1:
        return phrases[0]
    style = rng.randrange(5)
    if style == 0:
        return ", then ".join(phrases)
    if style == 1:
        return "; ".join(phrases)
    if style == 2:
        return f"first {phrases[0]}, then " + ", then ".join(phrases[1:])
    if style == 3:
        return ", ".join(phrases[:-1]) + f", and finally {phrases[-1]}"
    return ", ".join(phrases[:-1]) + f" and then {phrases[-1]}"


def numbered(phrases: Sequence[str]) -> str:
    """Return the phrases as lines "1. ...", "2. ..."."""
    return "\n".join(f"{number}. {phrase}" for number, phrase in enumerate(phrases, 1))


def capitalized(text: str) -> str:
    """Return ``text`` with its first letter in upper case and the rest as it is."""
    return text[:1].upper() + text[1:]
