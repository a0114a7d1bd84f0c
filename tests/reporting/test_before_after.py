"""Before and after tuning, and judgements of defects."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from run_folders import judgement, passes, write_run

from ift_lightning.reporting.before_after import adjust_together, compare_before_after
from ift_lightning.reporting.judgement import INVALID, is_judgement, judge
from ift_lightning.reporting.predictions import Predictions
from ift_lightning.reporting.runs import read_run
from ift_lightning.reporting.sentences import sentence


def predictions(folder: Path, lines: list[dict]) -> Predictions:
    folder.mkdir(exist_ok=True)
    found = read_run(write_run(folder / str(len(list(folder.iterdir()))), answers=lines))
    assert found.predictions is not None
    return found.predictions


def test_fixed_and_broken_problems_are_named(tmp_path: Path) -> None:
    before = predictions(tmp_path, passes([0, 0, 1, 1, 0]))
    after = [predictions(tmp_path, passes(row)) for row in
             ([1, 1, 0, 1, 0], [1, 0, 0, 1, 0], [1, 0, 1, 1, 0])]  # fmt: skip
    item = compare_before_after("lora", [before] * 3, after, [0, 1, 2], num_resamples=1000)
    assert item.changes is not None
    assert item.changes.fixed == ("p0",)  # p1 passes in one of three seeds
    assert item.changes.broken == ("p2",)
    assert (item.changes.still_passing, item.changes.still_failing) == (1, 2)
    assert item.changes_by == "pass@1"
    table = item.tables[0]
    assert len(table.arm("before").by_seed) == 1  # three copies of one base model
    assert len(table.arm("after").by_seed) == 3
    assert table.pairs[0].difference == pytest.approx(100 * (8 / 15 - 2 / 5))


def test_one_run_is_tested_with_mcnemar(tmp_path: Path) -> None:
    before = predictions(tmp_path, passes([0] * 9 + [1]))
    after = predictions(tmp_path, passes([1] * 8 + [0, 0]))
    (table,) = compare_before_after("a", [before], [after], [0], num_resamples=1000).tables
    assert table.pairs[0].method == "McNemar's exact test"
    assert table.pairs[0].p_value == pytest.approx(2 * (1 + 9) / 2**9)


def test_arms_against_their_base_model_are_tested_together(tmp_path: Path) -> None:
    before = predictions(tmp_path, passes([0] * 9 + [1]))
    outcomes = ([1] * 8 + [0, 0], [1] * 6 + [0] * 3 + [1], [0] * 9 + [1])
    items = adjust_together(
        [
            compare_before_after(
                name, [before], [predictions(tmp_path, passes(row))], [0], num_resamples=500,
                num_compared=3,
            )
            for name, row in zip("abc", outcomes, strict=True)
        ]
    )  # fmt: skip
    pairs = [item.tables[0].pairs[0] for item in items]
    assert [pair.p_value for pair in pairs] == pytest.approx([20 / 512, 2 / 64, 1])
    assert [pair.p_holm for pair in pairs] == pytest.approx([6 / 64, 6 / 64, 1])
    assert not any(pair.is_detected for pair in pairs)
    assert "after Holm" in sentence(pairs[0], items[0].tables[0].info)
    (alone,) = adjust_together([replace(items[0])])
    assert alone.tables[0].pairs[0].is_detected
    assert "Holm" not in sentence(alone.tables[0].pairs[0], alone.tables[0].info)


def test_samples_show_each_outcome(tmp_path: Path) -> None:
    before = predictions(tmp_path, passes([1, 1, 1, 1, 0, 0, 1]))
    after = predictions(tmp_path, passes([1, 1, 1, 1, 0, 1, 0]))
    item = compare_before_after("a", [before], [after], [0], num_resamples=1000, num_samples=5)
    assert [(sample.what, sample.after.id) for sample in item.samples] == [
        ("fixed", "p5"), ("broken", "p6"), ("right before and after", "p0"),
        ("right before and after", "p1"), ("wrong before and after", "p4"),
    ]  # fmt: skip


def test_recorded_scores_are_means_over_seeds_in_shown_units(tmp_path: Path) -> None:
    files = [predictions(tmp_path, passes([1, 0]))]
    metrics = [({"bleu": 10.0, "codebleu": 0.2}, {"bleu": 20.0, "codebleu": 0.3}),
               ({"bleu": 10.0, "codebleu": 0.2}, {"bleu": 30.0, "codebleu": 0.5})]  # fmt: skip
    item = compare_before_after("a", files, files, [0], metrics, num_resamples=1000)
    assert item.corpus["bleu"] == (10.0, 25.0)
    assert item.corpus["codebleu"] == (pytest.approx(20), pytest.approx(40))


def test_judgements_are_counted_by_subtype_and_class(tmp_path: Path) -> None:
    lines = [
        judgement("a", "差一错误", "有缺陷", "有缺陷"),
        judgement("b", "差一错误", "有缺陷", "无缺陷"),
        judgement("c", "常量错误", "有缺陷", None),
        judgement("e", "常量错误", "有缺陷", "难说"),
        judgement("d", "无缺陷", "无缺陷", "无缺陷"),
    ]
    found = predictions(tmp_path, lines)
    assert is_judgement(found)
    result = judge("m", [found])
    assert (result.overall.num_right, result.overall.num) == (2, 5)
    assert {r.name: (r.num_right, r.num) for r in result.by_subtype} == {
        "差一错误": (1, 2), "常量错误": (0, 2), "无缺陷": (1, 1)
    }  # fmt: skip
    assert {r.name: (r.num_right, r.num) for r in result.by_class} == {
        "有缺陷": (1, 4), "无缺陷": (1, 1)
    }  # fmt: skip
    assert (result.invalid.num_right, result.majority.num_right) == (2, 4)
    assert [given for _, _, given, _ in result.answers] == [
        "有缺陷",
        "无缺陷",
        INVALID,
        INVALID,
        "无缺陷",
    ]
    assert not is_judgement(predictions(tmp_path, passes([1])))


def test_without_a_recorded_accuracy_words_are_compared(tmp_path: Path) -> None:
    lines = [judgement("a", "s", "有缺陷", "有缺陷"), judgement("b", "s", "有缺陷", "无缺陷")]
    for line in lines:
        line["metrics"] = {}
    assert judge("m", [predictions(tmp_path, lines)]).overall.num_right == 1
