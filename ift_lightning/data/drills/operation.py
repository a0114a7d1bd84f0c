"""What one step of a drill is: a typed, parameterised operation and its wordings."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

VALUE_TYPES = ("ints", "words", "text", "number", "counts", "flag")
"""Types a value can have between two steps; ``flag`` (a Boolean) only ends a composition."""

Parameter = int | str


@dataclass(frozen=True, slots=True)
class Operation:
    """A primitive operation: one expression, its parameters, and how people describe it.

    In the texts, ``$v`` stands for the input's name, ``$k`` and ``$m`` for the parameters and
    ``$o`` for the name a loop collects into.

    Attributes:
        name: identifier, unique among all operations; compositions are told apart by it.
        source: type of the input, one of :data:`VALUE_TYPES`.
        target: type of the output.
        expression: a Python expression of ``$v`` that never fails on a value of type ``source``.
        phrases: wordings in the imperative, lower case; comments use the first one.
        chinese: the same in Chinese.
        k: admissible values of the first parameter; empty where there is none.
        m: admissible values of the second parameter.
        loop: an equivalent statement form (lines separated by newlines), or empty.
    """

    name: str
    source: str
    target: str
    expression: str
    phrases: tuple[str, ...]
    chinese: str
    k: tuple[Parameter, ...] = ()
    m: tuple[Parameter, ...] = ()
    loop: str = ""


@dataclass(frozen=True, slots=True)
class Step:
    """An operation with its parameters bound."""

    operation: Operation
    k: Parameter | None = None
    m: Parameter | None = None

    def fill(self, template: str) -> str:
        """Return ``template`` with the parameters in place; ``$v`` and ``$o`` stay."""
        return _fill(template, self.k, self.m)

    @property
    def function(self) -> Callable[[Any], Any]:
        """The step as a function of its input; it leaves the input unchanged."""
        return _compile(self.operation.expression, self.k, self.m)

    def phrase(self, choice: int = 0) -> str:
        """Return the wording number ``choice`` (modulo the number of wordings)."""
        phrases = self.operation.phrases
        return self.fill(phrases[choice % len(phrases)])


@functools.cache
def _fill(template: str, k: Parameter | None, m: Parameter | None) -> str:
    # A parameter is written the same way in prose and in code, so that it can be copied.
    return template.replace("$k", repr(k)).replace("$m", repr(m))


@functools.cache
def _compile(expression: str, k: Parameter | None, m: Parameter | None) -> Callable[[Any], Any]:
    # The expression is one of our own constants, never text from outside.
    code = _fill(expression, k, m).replace("$v", "value")
    function: Callable[[Any], Any] = eval(f"lambda value: {code}")
    return function
