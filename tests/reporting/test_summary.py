"""What a comparison prints: the ranking, and the pairs that matter."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from run_folders import passes, write_run

from ift_lightning.config.report_schema import ReportConfig

Shown = Callable[[dict[str, int]], list[str]]


@pytest.fixture
def shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Shown:
    """Return a function that compares methods by their numbers of right answers out of 40."""
    from ift_lightning.comparing import report

    def compare(right: dict[str, int]) -> list[str]:
        for method, count in right.items():
            outcomes = [number < count for number in range(40)]
            write_run(
                tmp_path / "sweep" / method,
                overrides=[f"peft={method}"],
                metrics={"test/pass@1": count / 40},
                answers=passes(outcomes),
                before=passes([False] * 40),
            )
        report(
            ReportConfig(
                sweep=str(tmp_path / "sweep"), output=str(tmp_path / "out"), num_resamples=1000,
                run_dir=str(tmp_path),
            )
        )  # fmt: skip
        return capsys.readouterr().out.splitlines()

    return compare


def test_arms_are_ranked_and_every_pair_of_few_is_in_words(shown: Shown) -> None:
    lines = shown({"prefix": 10, "lora": 30, "full": 20})
    start = lines.index("pass@1 (points, 40 problems):")
    assert [line.split()[:2] for line in lines[start + 1 : start + 4]] == [
        ["lora", "75.0"],
        ["full", "50.0"],
        ["prefix", "25.0"],
    ]
    assert lines[start + 4].split() == ["before", "tuning", "0.0"]
    pairs = [line for line in lines if " points more than " in line or "No detectable" in line]
    assert len(pairs) == 3
    assert any(line.startswith("lora passes 50.0 points more than prefix") for line in pairs)


def test_of_many_pairs_those_of_the_best_arm_are_shown(shown: Shown) -> None:
    lines = shown({"prefix": 2, "lora": 38, "full": 20, "prompt": 1, "ia3": 21})
    pairs = [line for line in lines if " points more than " in line or "No detectable" in line]
    assert len(pairs) == 4
    assert all("lora" in line for line in pairs)
    assert "8 of the 10 pairs differ detectably; the report has all of them" in lines
