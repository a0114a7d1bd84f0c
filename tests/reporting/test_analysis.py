"""From runs to what a report says."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from run_folders import passes, write_run

from ift_lightning.reporting.analysis import Analysis, analyse
from ift_lightning.reporting.arms import group_into_arms
from ift_lightning.reporting.contents import build_document
from ift_lightning.reporting.document import Bullets
from ift_lightning.reporting.runs import read_run
from ift_lightning.reporting.sentences import sentence


def analysis_of(
    folder: Path,
    arms: Mapping[str, Sequence[Mapping[str, float | None]]],
    *,
    changes: Mapping[str, Mapping[str, Any]] | None = None,
    answers: Mapping[str, Sequence[Sequence[int]]] | None = None,
) -> Analysis:
    """Analyse arms: name to the recorded scores of each seed."""
    runs = [
        read_run(
            write_run(
                folder / f"{name}-{seed}", overrides=[f"loss={name}"], seed=seed, metrics=metrics,
                changes=(changes or {}).get(name),
                answers=passes(answers[name][seed]) if answers else None,
            )
        )
        for name, seeds in arms.items()
        for seed, metrics in enumerate(seeds)
    ]  # fmt: skip
    return analyse("a title", group_into_arms(runs), [], num_resamples=500)


def scores(loss: float, nll: float) -> dict[str, float | None]:
    return {
        "test/loss": loss,
        "test/perplexity": math.exp(nll),
        "before/test/loss": 7 + loss,
        "before/test/perplexity": 1600.0,
    }


def test_losses_are_compared_with_all_tokens_alike(tmp_path: Path) -> None:
    """An arm with other weights has a lower loss of its own, and predicts worse."""
    analysis = analysis_of(
        tmp_path,
        {
            "default": [scores(0.228, 0.228), scores(0.229, 0.229), scores(0.230, 0.230)],
            "judgement": [scores(0.201, 0.238), scores(0.202, 0.239), scores(0.203, 0.240)],
        },
    )
    (table,) = analysis.tables
    assert table.arm("loss=judgement").by_seed == pytest.approx((0.238, 0.239, 0.240))
    (pair,) = table.pairs
    assert pair.is_detected
    assert sentence(pair, table.info).startswith(
        "The test loss of loss=default is 0.0100 nats per token lower than that of loss=judgement"
    )
    assert analysis.base_score(table.info) == pytest.approx(math.log(1600))


def test_losses_over_other_tokens_are_shown_and_not_tested(tmp_path: Path) -> None:
    values = [scores(0.3, 0.3), scores(0.31, 0.31), scores(0.32, 0.32)]
    lower = [scores(0.1, 0.1), scores(0.11, 0.11), scores(0.12, 0.12)]
    arms = {"default": values, "judgement": lower}
    changes = {"judgement": {"audit.mask.test.num_target_tokens": 400}}
    (table,) = analysis_of(tmp_path / "others", arms, changes=changes).tables
    (pair,) = table.pairs
    assert (pair.p_value, pair.is_detected) == (None, False)
    assert "means over other tokens do not compare" in sentence(pair, table.info)
    (same,) = analysis_of(tmp_path / "same", arms).tables
    assert same.pairs[0].is_detected


def test_many_arms_without_a_finding_still_have_sentences(tmp_path: Path) -> None:
    """The summary has the pairs of the best arm, each with what could have been shown."""
    names = [f"arm{index}" for index in range(6)]
    answers = {
        name: [[(problem + index) % 3 > 0 for problem in range(12)]]
        for index, name in enumerate(names)
    }
    analysis = analysis_of(tmp_path, {name: [{}] for name in names}, answers=answers)
    summary = build_document(analysis, {}).sections[0].blocks
    (bullets,) = [block for block in summary if isinstance(block, Bullets)]
    assert len(bullets.items) == 5
    assert all("No detectable difference" in item for item in bullets.items)
    assert not any(isinstance(b, Bullets) and not b.items for b in summary)


def test_costs_are_medians(tmp_path: Path) -> None:
    folders = [
        write_run(
            tmp_path / str(seed), seed=seed, answers=passes([1, 0]),
            changes={"performance.train_seconds": seconds},
        )
        for seed, seconds in enumerate((71.0, 158.0, 86.0))
    ]  # fmt: skip
    analysis = analyse("a title", group_into_arms([read_run(folder) for folder in folders]), [])
    (cost,) = analysis.costs.values()
    assert cost.train_seconds == 86.0
