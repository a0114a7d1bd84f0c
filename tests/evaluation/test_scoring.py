"""From completions to verdicts and scores, with a stand-in for what runs the programs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from ift_lightning.errors import UserError
from ift_lightning.evaluation.display import exclusions, sample_answers, score_table
from ift_lightning.evaluation.generation import Completion, FinishReason
from ift_lightning.evaluation.items import EvaluationItem, item_of
from ift_lightning.evaluation.sandbox import Outcome, Program, Verdict
from ift_lightning.evaluation.scoring import Evaluation, TextMetric, broken_references, score
from ift_lightning.metrics import MetricResult
from ift_lightning.types import InstructionRecord

TESTS = ({"args": [1], "expected": 2},)


def item(
    name: str, reference: str = "def f(x):\n    return x + 1", **changes: Any
) -> EvaluationItem:
    fields: dict[str, Any] = {
        "language": "python", "category": "implement", "subtype": "1_step", "entry_point": "f",
        "tests": TESTS, **changes,
    }  # fmt: skip
    return item_of(InstructionRecord(name, f"Write {name}.", "", reference, **fields), "prompt")


def run(programs: Sequence[Program]) -> Iterator[Outcome]:
    """Judge a program by the word in it."""
    for program in programs:
        if not program.code:
            yield outcome(program, Verdict.NO_CODE, executed=False)
        elif "x + 1" in program.code:
            yield outcome(program, Verdict.PASS)
        elif "crash" in program.code:
            yield outcome(program, Verdict.CRASH, executed=False)
        else:
            yield outcome(program, Verdict.FAIL)


def outcome(program: Program, verdict: Verdict, *, executed: bool = True) -> Outcome:
    return Outcome(
        id=program.id,
        verdict=verdict,
        executed=executed,
        num_passed=int(verdict is Verdict.PASS),
        num_tests=1,
        detail="",
        judged_in_child=False,
        seconds=0.0,
    )


def lengths(predictions: Sequence[str], references: Sequence[str], **options: Any) -> MetricResult:
    values = [float(len(text)) for text in predictions]
    return MetricResult(
        corpus={"length": sum(values)}, per_item={"length": values}, details={"options": options}
    )


RIGHT, WRONG = "def f(x):\n    return x + 1", "def f(x):\n    return x"


def scored(items: list[EvaluationItem], texts: dict[str, list[str]], **options: Any) -> Evaluation:
    completions = {
        name: [
            Completion(name, n, text.rstrip("…"), cut(text), 3) for n, text in enumerate(samples)
        ]
        for name, samples in texts.items()
    }
    keywords: dict[str, Any] = {"run": run, "metrics": [], **options}
    return score(items, completions, **keywords)


def cut(text: str) -> FinishReason:
    return FinishReason.LENGTH if text.endswith("…") else FinishReason.STOP


def test_verdicts_scores_and_shares() -> None:
    items = [item("a"), item("b", category="repair"), item("c"), item("d")]
    texts = {"a": [RIGHT], "b": [WRONG], "c": ["no idea"], "d": [f"{RIGHT}…"]}
    result = scored(items, texts)
    assert [p.verdict for p in result.predictions] == ["pass", "fail", "no_code", "no_code"]
    assert [p.detail for p in result.predictions] == ["", "", "no_function", "cut_off"]
    assert result.metrics == {
        "pass@1": 0.25,
        "execution_success": 0.5,
        "extraction_failures": 0.5,
        "cut_off": 0.25,
    }
    details = result.details["execution"]
    assert details["verdicts"] == {"fail": 1, "no_code": 2, "pass": 1}
    assert details["pass@1_by_category"] == {"implement": pytest.approx(1 / 3), "repair": 0.0}
    assert result.predictions[0].metrics["pass"] == 1.0
    assert result.predictions[1].metrics["num_tests_passed"] == 0


def test_pass_at_k_is_a_mean_over_rows_not_over_samples() -> None:
    items = [item("a"), item("b")]
    texts = {"a": [RIGHT, WRONG, WRONG, WRONG], "b": [WRONG] * 4}
    result = scored(items, texts, ks=(1, 4, 10))
    assert result.metrics["pass@1"] == 0.125
    assert result.metrics["pass@4"] == 0.5
    assert "pass@10" not in result.metrics
    with pytest.raises(UserError, match=r"k=10.*generation\.num_samples"):
        scored(items, texts, ks=(10,))


def test_row_whose_reference_fails_is_named_and_left_out() -> None:
    items = [item("good"), item("bad", WRONG), item("text", tests=(), entry_point="")]
    excluded = broken_references(items, run)
    assert excluded == {"bad": "its reference answer fails its own tests (fail)"}
    texts = {"good": [RIGHT], "bad": [RIGHT], "text": ["x"]}
    result = scored(items, texts, excluded=excluded, metrics=[TextMetric("length", lengths)])
    assert result.metrics["pass@1"] == 1.0
    assert result.details["execution"]["num_items"] == 1
    assert result.metrics["length"] == len(RIGHT) + 1, "no score counts the excluded row"
    bad = result.predictions[1]
    assert (bad.verdict, bad.metrics) == (None, {})
    assert "fails its own tests" in bad.to_json()["excluded"]
    assert "bad: its reference" in exclusions(excluded)
    with pytest.raises(UserError, match="no row is left to score"):
        scored([items[1]], {"bad": [RIGHT]}, excluded=excluded)


def test_rows_without_tests_are_compared_and_not_run() -> None:
    items = [item("a"), item("text", "It adds.", tests=(), entry_point="", category="document")]
    texts = {"a": [RIGHT], "text": ["<think>hm</think>It subtracts."]}
    result = scored(items, texts, metrics=[TextMetric("length", lengths, {"unit": "c"})])
    assert result.metrics["pass@1"] == 1.0
    text = result.predictions[1]
    assert text.verdict is None
    assert text.extraction.code == "It subtracts."
    assert text.metrics == {"length": 13.0}
    assert result.details["length"] == {"options": {"unit": "c"}}


def test_body_is_compared_as_a_body_and_run_as_a_program() -> None:
    stub = 'def f(x):\n    """Add one."""\n'
    record = InstructionRecord("he", stub, "", "    return x + 1\n", entry_point="f", tests=TESTS)
    seen: list[Any] = []

    def compare(predictions: Sequence[str], references: Sequence[str], **_: Any) -> MetricResult:
        seen.extend(zip(predictions, references, strict=True))
        return MetricResult(corpus={}, per_item={}, details={})

    result = scored(
        [item_of(record, stub)], {"he": ["    return x + 1"]}, metrics=[TextMetric("x", compare)]
    )
    assert result.predictions[0].extraction.code == stub + "    return x + 1\n"
    assert seen == [("    return x + 1", "    return x + 1\n")]


def test_metric_of_a_language_gets_its_rows_and_its_name() -> None:
    items = [
        item("a"),
        item("b"),
        item("j", "int f;", language="java", tests=(), entry_point=""),
        item("n", "text", language="", tests=(), entry_point=""),
    ]
    texts = {"a": ["xx"], "b": ["xxx"], "j": ["x"], "n": ["xxxxxxxx"]}
    result = scored(items, texts, run=None, metrics=[TextMetric("l", lengths, {}, True)])
    assert result.metrics["length"] == 5.0
    assert result.metrics["length_java"] == 1.0
    assert result.details["l"]["options"] == {"language": "python"}
    assert "length" not in result.predictions[3].metrics
    assert "pass@1" not in result.metrics, "nothing was run"


def test_function_that_assert_statements_call_is_found() -> None:
    tests = ("assert set(similar((1, 2), (2,))) == set((2,))",)
    reference = (
        "import re\ndef helper(x):\n    return x\ndef similar(a, b):\n    return helper(a)\n"
    )
    assert item("m", reference, tests=tests, entry_point="").entry_point == "similar"
    assert item("m", "no code", tests=tests, entry_point="").entry_point == ""


def test_samples_show_before_and_after_of_several_kinds() -> None:
    items = [item("a"), item("b"), item("c", category="repair")]
    before = scored(items, {"a": [WRONG], "b": [WRONG], "c": ["\x1b[2Jno"]})
    after = scored(items, {"a": [RIGHT], "b": [RIGHT], "c": [RIGHT]})
    text = sample_answers(after.predictions, before.predictions, at_most=2)
    assert "1. a (implement)" in text
    assert "2. c (repair)" in text
    assert " b " not in text
    assert "before: fail" in text
    assert "before: no_code (no_function)" in text
    assert "after: pass" in text
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) <= 100


def test_table_has_before_and_after() -> None:
    table = score_table({"test/pass@1": 0.9, "test/other": 1.0}, {"test/pass@1": 0.15})
    assert table.splitlines()[0].split() == ["before", "after"]
    assert table.splitlines()[1].split() == ["test/pass@1", "0.1500", "0.9000"]
    assert len(table.splitlines()) == 2


def test_judgement_is_read_beside_code_and_behind_reasoning() -> None:
    references = {"a": "判断:有缺陷\n\n原因：x", "b": "判断:无缺陷\n\n原因：y"}
    items = [item(name, text, tests=(), entry_point="") for name, text in references.items()]
    texts = {
        "a": ["判断:有缺陷\n\n原因：应为\n```python\nx = 1\n```"],
        "b": ["<think>判断:有缺陷，也许</think>判断：无缺陷"],
    }
    result = scored(items, texts, judgements=True)
    assert (result.metrics["accuracy"], result.metrics["invalid_answers"]) == (1.0, 0.0)


def test_table_names_a_score_once() -> None:
    assert score_table({"test/accuracy": 0.5}).count("test/accuracy") == 1
