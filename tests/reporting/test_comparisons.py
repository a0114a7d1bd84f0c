"""Scores of arms on common problems, pairs of arms, and what is said about them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from run_folders import answer, passes, write_run

from ift_lightning.reporting.comparisons import PairComparison, compare_by_problem, compare_by_seed
from ift_lightning.reporting.predictions import Predictions
from ift_lightning.reporting.runs import read_run
from ift_lightning.reporting.scores import ScoreMatrix, score_info, score_matrix
from ift_lightning.reporting.sentences import number, sentence
from ift_lightning.reporting.statistics.power import Power
from ift_lightning.reporting.statistics.significance import PassTable

PASS = score_info("pass@1")


def predictions(folder: Path, lines: list[dict]) -> Predictions:
    folder.mkdir(exist_ok=True)
    found = read_run(write_run(folder / str(len(list(folder.iterdir()))), answers=lines))
    assert found.predictions is not None
    return found.predictions


def test_problems_that_an_arm_lacks_or_excludes_are_left_out(tmp_path: Path) -> None:
    first = passes([1, 0, 1, 1])
    second = passes([0, 1, 1])
    second[0]["excluded"] = "its reference fails"
    matrix = score_matrix(
        {"a": [predictions(tmp_path, first)], "b": [predictions(tmp_path, second)]}, PASS
    )
    assert matrix is not None
    assert matrix.problems == ("p1", "p2")
    assert matrix.num_left_out == 2
    assert matrix.values["a"].tolist() == [[0, 1]]
    assert matrix.values["b"].tolist() == [[1, 1]]
    assert matrix.is_binary


def test_samples_of_a_problem_are_one_entry(tmp_path: Path) -> None:
    lines = [answer("p0", bool(i < 2), i) for i in range(5)]
    files = {"a": [predictions(tmp_path, lines)]}
    one, three = score_matrix(files, PASS), score_matrix(files, score_info("pass@3"))
    assert one is not None
    assert three is not None
    assert one.values["a"].tolist() == [[0.4]]
    assert not one.is_binary
    # 1 - C(3, 3) / C(5, 3)
    assert three.values["a"] == pytest.approx(np.array([[0.9]]))
    assert score_matrix(files, score_info("pass@6")) is None


def matrix_of(**arms: list[list[int]]) -> ScoreMatrix:
    values = {name: np.array(rows, float) for name, rows in arms.items()}
    num = next(iter(values.values())).shape[1]
    return ScoreMatrix(PASS, tuple(f"p{i}" for i in range(num)), values, 0, True)


def test_one_answer_and_one_seed_get_mcnemars_test() -> None:
    a = [1] * 12 + [0] * 3 + [1] * 30 + [0] * 55
    b = [0] * 12 + [1] * 3 + [1] * 30 + [0] * 55
    table = compare_by_problem(matrix_of(a=[a], b=[b]), {"a": [0], "b": [0]})
    (pair,) = table.pairs
    assert pair.passes == PassTable(30, 12, 3, 55)
    assert pair.p_value == pytest.approx(0.03515625)
    assert pair.method == "McNemar's exact test"
    assert pair.difference == pytest.approx(9)
    assert table.arm("a").interval == "Wilson"
    assert (table.arm("a").low, table.arm("a").high) == (
        pytest.approx(32.8, abs=0.05), pytest.approx(51.8, abs=0.05)
    )  # fmt: skip
    assert table.arm("a").spread is None


def test_several_seeds_speak_about_seeds_and_keep_mcnemar_by_seed() -> None:
    rng = np.random.default_rng(0)
    rows = (rng.random((4, 60)) < 0.5).astype(int).tolist()
    matrix = matrix_of(a=rows[:2], b=rows[2:])
    (pair,) = compare_by_problem(matrix, {"a": [0, 5], "b": [5, 7]}).pairs
    assert pair.passes is None
    assert pair.method == "problems and seeds"
    assert pair.passes_by_seed is not None
    assert list(pair.passes_by_seed) == [5]
    assert pair.low is not None and pair.low_problems is not None
    assert pair.low < pair.low_problems
    base = compare_by_problem(matrix_of(a=rows[:2], base=rows[2:3]), {"a": [0, 1], "base": []})
    assert base.pairs[0].passes_by_seed is not None
    assert list(base.pairs[0].passes_by_seed) == [0, 1]


def test_a_share_of_none_or_all_keeps_an_interval() -> None:
    table = compare_by_problem(
        matrix_of(a=[[0] * 20] * 2, b=[[1] * 20] * 2), {"a": [0, 1], "b": [0, 1]}
    )
    assert table.arm("a").high == pytest.approx(16.1, abs=0.05)
    assert table.arm("b").low == pytest.approx(83.9, abs=0.05)


def test_shares_differ_by_all_at_most() -> None:
    first, second = [[1] * 18 + [0] * 2, [1] * 20], [[0] * 20, [0] * 17 + [1] * 3]
    (pair,) = compare_by_problem(matrix_of(a=first, b=second), {"a": [0, 1], "b": [0, 1]}).pairs
    assert pair.high == 100
    assert pair.low is not None and 0 < pair.low < pair.difference


def test_holm_goes_over_all_pairs_of_a_table() -> None:
    rng = np.random.default_rng(1)
    rows = {name: (rng.random((1, 80)) < p).astype(int).tolist()
            for name, p in [("a", 0.2), ("b", 0.5), ("c", 0.6)]}  # fmt: skip
    seeds = {name: [0] for name in rows}
    table = compare_by_problem(matrix_of(**rows), seeds)
    p_values = sorted(pair.p_value for pair in table.pairs if pair.p_value is not None)
    adjusted = sorted(pair.p_holm for pair in table.pairs if pair.p_holm is not None)
    assert adjusted[0] == pytest.approx(3 * p_values[0])
    assert len(table.pairs) == 3
    against = compare_by_problem(matrix_of(**rows), seeds, baseline="b")
    assert [(pair.first, pair.second) for pair in against.pairs] == [("a", "b"), ("c", "b")]


def test_losses_are_compared_over_seeds() -> None:
    info = score_info("test/loss")
    table = compare_by_seed(info, {"a": [0.5, 0.52, 0.51], "b": [0.4, 0.41, 0.42], "c": [0.3]})
    first, second, third = table.pairs
    assert first.method == "Welch's t-test over seeds"
    assert first.is_detected
    assert second.p_value is None and third.p_value is None
    assert table.arm("c").spread is None
    assert sentence(first, info) == (
        "The test loss of b is 0.1000 nats per token lower than that of a (95 % interval 0.0773 to "
        "0.1227; p < 0.001, Welch's t-test over seeds) on these test rows."
    )
    assert sentence(second, info) == (
        "a minus c is 0.2100 nats per token on test loss; whether that means anything cannot be "
        "said (one seed says nothing of others)."
    )


PAIR = PairComparison(
    "LoRA", "prompt tuning", 6.2, 2.1, 10.3, 0.002, 0.004, "problems and seeds",
    "problems and seeds", num_problems=200, num_compared=3,
    num_seeds=(3, 3),
)  # fmt: skip


def test_a_found_difference_in_words() -> None:
    assert sentence(PAIR, PASS) == (
        "LoRA passes 6.2 points more than prompt tuning (95 % interval 2.1 to 10.3; p = 0.004 "
        "after Holm, problems and seeds)."
    )
    turned = replace(PAIR, difference=-6.2, low=-10.3, high=0.04)
    assert sentence(turned, score_info("bleu")) == (
        "prompt tuning scores 6.2 points higher than LoRA on BLEU (95 % interval 0.0 to 10.3; "
        "p = 0.004 after Holm, problems and seeds)."
    )


def test_no_found_difference_in_words() -> None:
    pair = replace(PAIR, difference=-1.24, low=-5.0, high=2.5, p_holm=0.6)
    head = (
        "No detectable difference between LoRA and prompt tuning: −1.2 points (95 % interval −5.0 "
        "to 2.5; p = 0.600 after Holm)"
    )
    here = "these 200 problems show effects from about 8.0 points."
    assert sentence(replace(pair, power=Power(8.0, 4.0, 894)), PASS) == (
        f"{head}. An effect under 4.0 points would need about 890 problems; {here}"
    )
    assert sentence(replace(pair, power=Power(8.0, 4.0, None, 9)), PASS) == (
        f"{head}. An effect under 4.0 points would need about 9 seeds an arm, since the seeds "
        f"differ too much for more problems to help; {here}"
    )
    assert sentence(replace(pair, power=Power(8.0, 4.0, 12345, 12)), PASS) == (
        f"{head}. An effect under 4.0 points would need about 12,000 problems and 12 seeds an arm; "
        f"{here}"
    )
    assert sentence(replace(pair, power=Power(286.4, 143.2, None, 14)), PASS) == (
        f"{head}. The seeds differ so much that no difference of any size would be found for "
        "certain."
    )
    assert sentence(pair, PASS) == f"{head}: the outcome is the same on all 200 problems."


def test_numbers_have_a_minus_sign_and_no_negative_zero() -> None:
    assert [number(value, 1) for value in (-0.04, -1.26, 3)] == ["0.0", "−1.3", "3.0"]
