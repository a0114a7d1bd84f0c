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


SEED_REFERENCE = (
    "def f(alpha, beta, gamma):\n    total = alpha\n    while beta:\n"
    "        total = total + gamma\n        beta = beta - total\n"
    "        gamma = beta + alpha\n    return total + beta + gamma"
)
SEED_PREDICTION = (
    "def f(p, q, r):\n    s = p\n    while q:\n        s = r + s\n"
    "        q = s - q\n        r = p + q\n    return r + q + s"
)


def _values_under_hash_seeds(code: str) -> set[str]:
    """Return what a program prints under three hash seeds."""
    return {
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env=os.environ | {"PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("3", "4", "5")
    }


def test_hash_seed_does_not_matter() -> None:
    ours = _values_under_hash_seeds(
        "import json\nfrom ift_lightning.metrics import codebleu\n"
        f"print(json.dumps(codebleu([{SEED_PREDICTION!r}], [{SEED_REFERENCE!r}]).corpus))"
    )
    assert len(ours) == 1
    assert json.loads(ours.pop())["codebleu"] > 0


def test_the_package_alone_depends_on_the_hash_seed() -> None:
    # Otherwise the test above would pass whatever our code does.
    theirs = _values_under_hash_seeds(
        "from codebleu import calc_codebleu\n"
        f"print(calc_codebleu([[{SEED_REFERENCE!r}]], [{SEED_PREDICTION!r}], 'python'))"
    )
    assert len(theirs) == 3


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


def test_half_of_a_surrogate_pair_does_not_end_the_evaluation() -> None:
    result = codebleu(["x = '\ud800'", REFERENCE], ["x = 1", REFERENCE])
    assert result.per_item["codebleu"][1] == pytest.approx(1.0)


def test_php_with_an_xml_head_in_a_string_is_read_as_php() -> None:
    one, other = "$a = '<?xml ?>'; g($a);", "foreach ($q as $r) { h($r); } $a = '<?xml ?>';"
    bare = codebleu([one], [other], language="php").corpus
    assert bare == codebleu([f"<?php\n{one}"], [f"<?php\n{other}"], language="php").corpus
    # As plain text, outside of any tag, both would be one equal node.
    assert bare["codebleu/syntax"] < 1


def test_endless_nesting_is_scored_as_an_empty_answer() -> None:
    deep = "(" * 5000 + "1" + ")" * 5000
    result = codebleu([deep, REFERENCE], [REFERENCE, REFERENCE])
    blank = codebleu(["", REFERENCE], [REFERENCE, REFERENCE])
    assert (result.corpus, result.per_item) == (blank.corpus, blank.per_item)
    assert result.details == {"language": "python", "num_too_deep": 1}


def test_nesting_that_programs_have_is_scored() -> None:
    # A sum nests once for each of its terms. The reference is flat, so its depth allows nothing.
    long_sum = "x = " + " + ".join(f"a{i}" for i in range(300))
    result = codebleu([long_sum], ["x = a0 + a1"])
    assert result.details == {"language": "python"}
    assert result.corpus["codebleu/syntax"] > 0


def test_a_prediction_as_deep_as_its_reference_is_scored() -> None:
    deep = "x = " + "(" * 1010 + "1" + ")" * 1010
    assert codebleu([deep], [deep]).corpus["codebleu/syntax"] == 1.0


def test_a_renamed_variable_keeps_syntax_and_data_flow() -> None:
    renamed = REFERENCE.replace("total", "result")
    scores = codebleu([renamed], [REFERENCE]).corpus
    assert scores["codebleu/syntax"] == scores["codebleu/dataflow"] == 1.0
    assert scores["codebleu"] < 1


def test_corpus_counts_matches_over_all_items_and_not_in_order() -> None:
    predictions, references = [PREDICTION, REFERENCE, ""], [REFERENCE] * 3
    forward = codebleu(predictions, references).corpus
    assert forward == pytest.approx(codebleu(predictions[::-1], references).corpus)


@pytest.mark.parametrize("language", CODEBLEU_LANGUAGES)
def test_parts_of_every_language_are_those_of_the_package(language: str) -> None:
    tag = "<?php\n" if language == "php" else ""
    reference, prediction = tag + PROGRAMS[language], tag + PROGRAMS[language].replace("+ 1", "- x")
    ours = codebleu([prediction], [reference], language=language).corpus
    theirs = calc_codebleu([[reference]], [prediction], language)
    assert ours["codebleu_upstream"] == pytest.approx(theirs["codebleu"])
    for part in ("ngram", "weighted_ngram", "syntax", "dataflow"):
        if f"codebleu/{part}" in ours:
            assert ours[f"codebleu/{part}"] == pytest.approx(theirs[f"{part}_match_score"]), part
