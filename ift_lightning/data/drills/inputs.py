"""Arguments to call drills with: ordinary ones and edge cases, and the tests made of them."""

from __future__ import annotations

import random
from typing import Any

from ift_lightning.data.drills.composition import Composition

NUM_TESTS = 7
_MAX_MAGNITUDE = 10**9  # larger integers would leave what JSON readers agree on
_MAX_LENGTH = 80  # characters or items of an expected value

_WORDS = (
    "apple", "bear", "cat", "door", "echo", "fox", "green", "hat", "ice", "jar", "kite", "lemon",
    "moon", "nut", "ocean", "pen", "queen", "rose", "stone", "tree", "up", "vase", "we", "box",
    "yes", "zoo", "level", "noon", "Anna", "Bob", "Rome", "Oslo", "sea", "star", "art", "ten",
)  # fmt: skip
_KEYS = ("a", "b", "c", "x", "y", "z", "red", "tea")


def _ints(rng: random.Random) -> list[int]:
    values = [rng.randint(-9, 12) for _ in range(rng.randint(4, 8))]
    return values + [values[0]] if rng.random() < 0.5 else values


def _words(rng: random.Random) -> list[str]:
    values = [rng.choice(_WORDS) for _ in range(rng.randint(3, 5))]
    return values + [values[0]] if rng.random() < 0.5 else values


def _text(rng: random.Random) -> str:
    words = [rng.choice(_WORDS) for _ in range(rng.randint(2, 3))]
    if rng.random() < 0.4:
        words[0] = words[0].upper()
    if rng.random() < 0.3:
        words.append(str(rng.randint(10, 99)))
    text = " ".join(words)
    return f" {text} " if rng.random() < 0.25 else text


def _number(rng: random.Random) -> int:
    return rng.randint(1, 30) if rng.random() < 0.5 else rng.randint(31, 999)


def _counts(rng: random.Random) -> dict[str, int]:
    keys = rng.sample(_KEYS, rng.randint(3, 5))
    return {key: rng.randint(-3, 9) for key in keys}


_ORDINARY = {"ints": _ints, "words": _words, "text": _text, "number": _number, "counts": _counts}


def _edge_cases(source: str, rng: random.Random) -> list[Any]:
    """Return the empty value, one with negatives or blanks, and one with duplicates."""
    a, b = rng.randint(1, 6), rng.randint(1, 6)
    word = rng.choice(_WORDS)
    if source == "ints":
        return [[], [-a, -b - 3, -a], [a, a, b + a, a]]
    if source == "words":
        return [[], ["", word, word], [word, rng.choice(_WORDS), word, "a"]]
    if source == "text":
        return ["", word + word, f"{word} {rng.choice(_WORDS)} {word}"]
    if source == "number":
        return [0, -a * 7, a]
    return [{}, {"a": -a, "x": b, "b": -a}, {"c": a, "a": a, "y": b}]


def ordinary_input(source: str, rng: random.Random) -> Any:
    """Return one ordinary argument of the value type ``source``."""
    return _ORDINARY[source](rng)


def make_tests(steps: Composition, rng: random.Random) -> list[dict[str, Any]] | None:
    """Return tests of a composition: ``{"args": [value], "expected": value}``, edge cases first.

    Returns:
        :data:`NUM_TESTS` tests, or None where the composition makes a poor task: hardly any
        variety among the results, a step that no test can tell from doing nothing, or values that
        are too large.
    """
    source = steps[0].operation.source
    arguments = _edge_cases(source, rng)
    arguments += [_ORDINARY[source](rng) for _ in range(NUM_TESTS - len(arguments))]
    functions = [step.function for step in steps]
    results = []
    for value in arguments:
        for function in functions:
            value = function(value)
        results.append(value)
    if not all(_is_moderate(result) for result in results):
        return None
    num_distinct = len({repr(result) for result in results})
    if num_distinct < (2 if steps[-1].operation.target == "flag" else 4):
        return None
    for skipped, step in enumerate(steps):
        if step.operation.source == step.operation.target and not _matters(
            functions, skipped, arguments, results
        ):
            return None
    return [
        {"args": [argument], "expected": result}
        for argument, result in zip(arguments, results, strict=True)
    ]


def _matters(functions: list[Any], skipped: int, arguments: list[Any], results: list[Any]) -> bool:
    """Tell whether leaving out step ``skipped`` changes any result."""
    rest = functions[:skipped] + functions[skipped + 1 :]
    # Ordinary arguments come last and are the likeliest to differ.
    for argument, result in zip(reversed(arguments), reversed(results), strict=True):
        for function in rest:
            argument = function(argument)
        if argument != result:
            return True
    return False


def _is_moderate(value: Any) -> bool:
    if isinstance(value, int):
        return abs(value) <= _MAX_MAGNITUDE
    if isinstance(value, str):
        return len(value) <= _MAX_LENGTH
    items = value.values() if isinstance(value, dict) else value
    return len(value) <= _MAX_LENGTH and all(_is_moderate(item) for item in items)
