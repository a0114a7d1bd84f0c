"""CodeBLEU: the package's parts, our handling of missing data flow, any hash seed."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from codebleu import calc_codebleu

from ift_lightning.metrics import CODEBLEU_LANGUAGES, codebleu
from ift_lightning.metrics.codebleu import codebleu_language

REFERENCE = (
    "def f(values):\n    total = 0\n    for v in values:\n        total += v\n    return total"
)
PREDICTION = "def f(values):\n    total = 1\n    for v in values:\n        total -= v\n    return v"

PROGRAMS = {
    "python": "def f(x):\n    y = x + 1\n    return y",
    "java": "class A { int f(int x) { int y = x + 1; return y; } }",
    "javascript": "function f(x) { let y = x + 1; return y; }",
    "c": "int f(int x) { int y = x + 1; return y; }",
    "cpp": "int f(int x) { int y = x + 1; return y; }",
    "c_sharp": "class A { int f(int x) { int y = x + 1; return y; } }",
    "go": "package p\nfunc f(x int) int { y := x + 1; return y }",
    "php": "function f($x) { $y = $x + 1; return $y; }",
    "ruby": "def f(x)\n  y = x + 1\n  return y\nend",
    "rust": "fn f(x: i32) -> i32 { let y = x + 1; y }",
}


def test_parts_are_those_of_the_package() -> None:
    ours = codebleu([PREDICTION, REFERENCE], [REFERENCE, REFERENCE]).corpus
    theirs = calc_codebleu([[REFERENCE], [REFERENCE]], [PREDICTION, REFERENCE], "python")
    assert ours["codebleu_upstream"] == pytest.approx(theirs["codebleu"])
    for part in ("ngram", "weighted_ngram", "syntax", "dataflow"):
        assert ours[f"codebleu/{part}"] == pytest.approx(theirs[f"{part}_match_score"])
    parts = [ours[f"codebleu/{part}"] for part in ("ngram", "weighted_ngram", "syntax", "dataflow")]
    assert ours["codebleu"] == pytest.approx(sum(parts) / 4) == pytest.approx(theirs["codebleu"])


@pytest.mark.parametrize("language", CODEBLEU_LANGUAGES)
def test_every_language(language: str) -> None:
    program = PROGRAMS[language]
    other = program.replace("+ 1", "- 2")
    result = codebleu([program, other, ""], [program] * 3, language=language)
    same, changed, empty = (value or 0.0 for value in result.per_item["codebleu"])
    assert same == pytest.approx(1.0)
    assert 0 < changed < 1
    assert empty < 0.01
    assert result.details == {"language": language}


def test_an_empty_answer_gets_nothing_and_upstream_a_quarter() -> None:
    scores = codebleu([""], [REFERENCE]).corpus
    assert scores["codebleu"] == 0.0 and scores["codebleu_upstream"] == 0.25


def test_missing_data_flow_is_left_out() -> None:
    scores = codebleu(["return 1"], ["return 2"]).corpus
    assert "codebleu/dataflow" not in scores
    parts = [scores[f"codebleu/{part}"] for part in ("ngram", "weighted_ngram", "syntax")]
    assert scores["codebleu"] == pytest.approx(sum(parts) / 3)
    assert scores["codebleu_upstream"] == pytest.approx(sum(parts) / 4 + 0.25)


def test_hash_seed_does_not_matter() -> None:
    code = (
        "import json, sys\nfrom ift_lightning.metrics import codebleu\n"
        f"print(json.dumps(codebleu([{PREDICTION!r}], [{REFERENCE!r}]).corpus))"
    )
    values = set()
    for seed in ("1", "2", "random"):
        environment = os.environ | {"PYTHONHASHSEED": seed}
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env=environment,
        )
        values.add(done.stdout)
    assert len(values) == 1 and json.loads(values.pop())["codebleu"] > 0


@pytest.mark.parametrize(
    ("name", "expected"),
    [("C#", "c_sharp"), ("c++", "cpp"), ("Python", "python"), ("js", "javascript"), ("sql", None)],
)
def test_names_of_languages(name: str, expected: str | None) -> None:
    assert codebleu_language(name) == expected


def test_unknown_language_is_refused() -> None:
    with pytest.raises(ValueError, match="no grammar for 'sql'"):
        codebleu(["x"], ["x"], language="sql")


def test_comments_are_no_part_of_syntax() -> None:
    commented = REFERENCE.replace("total = 0", "total = 0  # begin")
    scores = codebleu([commented], [REFERENCE]).corpus
    assert scores["codebleu/syntax"] == scores["codebleu/dataflow"] == 1.0
