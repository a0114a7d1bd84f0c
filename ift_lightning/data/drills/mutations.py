"""Defects: small changes that make a right function wrong, sorted into subtypes."""

from __future__ import annotations

import copy
import dataclasses
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ift_lightning.data.drills.composition import Composition
from ift_lightning.data.drills.rendering import FunctionCode, StepCode


@dataclass(frozen=True, slots=True)
class Defect:
    """A function with one defect.

    Attributes:
        code: the broken function.
        subtype: one of :data:`SUBTYPES`.
        step: index of the step that is wrong.
        wrong: the line that is wrong.
        right: the line that should stand there.
    """

    code: FunctionCode
    subtype: str
    step: int
    wrong: str
    right: str


_NUMBER = r"-?\d+"
_ATOM = r"(?:[a-z_]+\([a-z_]+\)|[a-z_]+(?:\[[^\]]*\])?|'[^']*'|-?\d+|\[-?\d+\])"
_Rule = tuple[re.Pattern[str], Callable[[re.Match[str]], str]]


def _rule(pattern: str, replacement: Callable[[re.Match[str]], str] | str) -> _Rule:
    if isinstance(replacement, str):
        text = replacement
        return re.compile(pattern), lambda match: match.expand(text)
    return re.compile(pattern), replacement


def _exchange(first: str, second: str) -> list[_Rule]:
    """Return the two rules that put ``second`` for ``first`` and the other way round."""
    return [_rule(re.escape(first), lambda _: second), _rule(re.escape(second), lambda _: first)]


_RULES: dict[str, list[_Rule]] = {
    "off_by_one": [
        _rule(r"(?<=:)(\d+)(?=\])", lambda match: str(int(match[1]) + 1)),
        _rule(r"(?<=\[)(\d+)(?=:)", lambda match: str(int(match[1]) + 1)),
        _rule(r"(?<=\[-)(\d+)(?=:)", lambda match: str(int(match[1]) + 1)),
        _rule(r"(\d+) \+ 1\)", r"\1)"),
        _rule(r"i \+ 1\]", "i]"),
        _rule(r"enumerate\((\w+)\)", r"enumerate(\1, 1)"),
        *_exchange(" > ", " >= "),
        *_exchange(" < ", " <= "),
    ],
    "wrong_operator": [
        *_exchange(" + ", " - "), *_exchange(" * ", " + "), *_exchange(" // ", " % "),
        *_exchange(" == ", " != "), *_exchange(" > ", " < "), *_exchange(" += ", " -= "),
        _rule(r"if ('\w') in ", r"if \1 not in "), _rule(" not in ", " in "),
        _rule(r"return ('\w') in ", r"return \1 not in "),
    ],
    "wrong_function": [
        *_exchange("max(", "min("), *_exchange("any(", "all("), *_exchange("upper()", "lower()"),
        *_exchange("sum(", "len("), *_exchange("isalpha()", "isdigit()"),
        *_exchange("startswith(", "endswith("), _rule(r"\.find\(", ".rfind("),
        _rule(r"\.capitalize\(", ".upper("), _rule(r"\.swapcase\(", ".lower("),
        _rule(r"sorted\((\w+), reverse=True\)", r"sorted(\1)"),
        _rule(r"sorted\((\w+)\)", r"\1[::-1]"),
        _rule(r"key=abs", "key=str"), _rule(r"abs\((\w+)\)", r"-\1"),
    ],
    "wrong_constant": [
        _rule(r"(?<=[<>=*/%+-] )(\d+)(?![\d.])", lambda match: str(int(match[1]) + 2)),
        _rule(r"(?<=, )(\d+)(?=\))", lambda match: str(int(match[1]) + 2)),
        _rule(r"'([a-z])'", lambda match: "'d'" if match[1] != "d" else "'f'"),
        _rule(r"(?<=::)(\d)(?=\])", lambda match: str(int(match[1]) + 2)),
        _rule(r"aeiou", "aei"),
    ],
    "missing_edge_case": [
        _rule(r""" if \w+ else (?:0|"")$""", ""),
        _rule(r"\.get\(('\w'), -?\d+\)", r"[\1]"),
        _rule(r"\[:1\]", "[0]"),
    ],
    "swapped_arguments": [
        _rule(r"replace\(('.'), ('.')\)", r"replace(\2, \1)"),
        _rule(r"(?<![\w\]])(\w+)\.startswith\(('\w')\)", r"\2.startswith(\1)"),
        _rule(rf"\.get\(('\w'), ({_NUMBER})\)", r".get(\2, \1)"),
        _rule(r"zip\((\w+), (\w+\[1:\])\)", r"zip(\2, \1)"),
        _rule(rf"({_ATOM}) (-|//|%) ({_ATOM})", r"\3 \2 \1"),
        _rule(rf"(?<=return )({_ATOM}) \+ ({_ATOM})$", r"\2 + \1"),
        _rule(rf"(?<== )({_ATOM}) \+ ({_ATOM})$", r"\2 + \1"),
        _rule(r"w \+ ('.') for", r"\1 + w for"),
        _rule(rf"({_NUMBER}) <= x <= ({_NUMBER})", r"\2 <= x <= \1"),
    ],
    "wrong_initial_value": [
        _rule(r"^(\w+) = 0$", r"\1 = 1"),
        _rule(r"^(\w+) = \[\]$", r"\1 = [0]"),
        _rule(r'^(\w+) = ""$', r'\1 = " "'),
    ],
}  # fmt: skip

# In-place forms of a first step: they give the right result and change the caller's argument.
_IN_PLACE = {
    "sort_ascending": "$v.sort()", "sort_descending": "$v.sort(reverse=True)",
    "sort_by_size": "$v.sort(key=abs)", "reverse_list": "$v.reverse()",
    "append_value": "$v.append($k)", "prepend_value": "$v.insert(0, $k)",
    "drop_first": "del $v[:$k]", "sort_words": "$v.sort()", "sort_by_length": "$v.sort(key=len)",
    "reverse_words": "$v.reverse()", "set_key": "$v[$k] = $m", "drop_key": "$v.pop($k, None)",
    "first_words": "del $v[$k:]", "take_first": "del $v[$k:]",
}  # fmt: skip

SUBTYPES = (*_RULES, "wrong_variable", "wrong_return", "mutated_input")
"""All subtypes of defects; see :func:`inject`."""


def _replace_line(code: FunctionCode, step: int, line: int, lines: Sequence[str]) -> FunctionCode:
    old = code.steps[step]
    new = StepCode((*old.lines[:line], *lines, *old.lines[line + 1 :]), old.comment)
    return dataclasses.replace(code, steps=(*code.steps[:step], new, *code.steps[step + 1 :]))


def _from_rules(code: FunctionCode, subtype: str) -> list[Defect]:
    defects = []
    for step_index, step in enumerate(code.steps):
        for line_index, line in enumerate(step.lines):
            for pattern, replacement in _RULES[subtype]:
                wrong = pattern.sub(replacement, line, count=1)
                if wrong != line:
                    broken = _replace_line(code, step_index, line_index, [wrong])
                    defects.append(Defect(broken, subtype, step_index, wrong, line))
    return defects


def _wrong_variables(code: FunctionCode) -> list[Defect]:
    """Read the parameter where a later step should read what the steps before it made."""
    defects = []
    for step_index, step in enumerate(code.steps):
        for line_index, line in enumerate(step.lines):
            head, separator, value = _split_at_value(line)
            wrong_value = re.sub(r"\b(?:result|output|kept)\b", code.parameter, value)
            if step_index and wrong_value != value:
                wrong = head + separator + wrong_value
                broken = _replace_line(code, step_index, line_index, [wrong])
                defects.append(Defect(broken, "wrong_variable", step_index, wrong, line))
    return defects


def _split_at_value(line: str) -> tuple[str, str, str]:
    """Split a line before what it reads; a line that only collects has nothing to read."""
    for separator in ("return ", " = "):
        if separator in line:
            return line.partition(separator)
    match = re.match(r"(for \w+ in )(.*)", line)
    return ("", match[1], match[2]) if match else (line, "", "")


def _wrong_returns(code: FunctionCode) -> list[Defect]:
    """Return nothing, the parameter, or the result of a loop after its first round."""
    step = len(code.steps) - 1
    lines = code.steps[step].lines
    line = lines[-1]
    candidates = [line.removeprefix("return "), f"return {code.parameter}"]
    if any(text.startswith("for ") for text in lines):
        candidates = ["    " + line]
    last = len(lines) - 1
    return [
        Defect(_replace_line(code, step, last, [wrong]), "wrong_return", step, wrong, line)
        for wrong in candidates
    ]


def _mutated_inputs(code: FunctionCode, steps: Composition) -> list[Defect]:
    template = _IN_PLACE.get(steps[0].operation.name)
    if template is None:
        return []
    wrong = steps[0].fill(template).replace("$v", code.parameter)
    right = code.steps[0].lines[0]
    head = "return" if right.startswith("return ") else right.split(" = ")[0] + " ="
    lines = [wrong] if head == f"{code.parameter} =" else [wrong, f"{head} {code.parameter}"]
    return [Defect(_replace_line(code, 0, 0, lines), "mutated_input", 0, wrong, right)]


def inject(
    code: FunctionCode,
    steps: Composition,
    subtype: str,
    tests: Sequence[dict[str, Any]],
    rng: random.Random,
) -> Defect | None:
    """Put a defect of one subtype into a function, such that at least one test notices.

    Args:
        code: the right function.
        steps: its composition.
        subtype: one of :data:`SUBTYPES`.
        tests: the function's tests; a change of the argument counts as a failure.
        rng: source of randomness, for the choice among the possible places.

    Returns:
        The defect, or None where the function offers no place for it.
    """
    if subtype == "wrong_variable":
        defects = _wrong_variables(code)
    elif subtype == "wrong_return":
        defects = _wrong_returns(code)
    elif subtype == "mutated_input":
        defects = _mutated_inputs(code, steps)
    else:
        defects = _from_rules(code, subtype)
    rng.shuffle(defects)
    return next((defect for defect in defects if not passes(defect.code, tests)), None)


def call(code: FunctionCode, argument: Any) -> tuple[Any, str, Any]:
    """Run a function of this package on a copy of one argument.

    Returns:
        The result, the name of the exception that it raised (or ""), and the argument afterwards.
    """
    namespace: dict[str, Any] = {}
    try:
        # The source was put together by this package from its own constants.
        exec(code.source(), namespace)
        argument = copy.deepcopy(argument)
        return namespace[code.name](argument), "", argument
    except Exception as error:  # a broken function may raise anything
        return None, type(error).__name__, argument


def passes(code: FunctionCode, tests: Sequence[dict[str, Any]]) -> bool:
    """Tell whether a function of this package passes its tests and leaves its argument alone."""
    return source_passes(code.source(), code.name, tests)


def source_passes(source: str, name: str, tests: Sequence[dict[str, Any]]) -> bool:
    """Tell the same of a source text of this package that defines the function ``name``."""
    namespace: dict[str, Any] = {}
    try:
        exec(source, namespace)
        function = namespace[name]
        for test in tests:
            argument = copy.deepcopy(test["args"][0])
            result = function(argument)
            if type(result) is not type(test["expected"]) or result != test["expected"]:
                return False
            if argument != test["args"][0]:
                return False
    except Exception:  # a broken function may raise anything
        return False
    return True
