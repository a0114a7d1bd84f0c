"""What differs between arms besides what is compared is found, and nothing else is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from run_folders import write_run

from ift_lightning.reporting.arms import Arm, group_into_arms
from ift_lightning.reporting.fairness import Kind, check_evaluations, check_fairness
from ift_lightning.reporting.runs import read_runs


def arms_of(
    folder: Path,
    changed: dict[str, Any],
    config: dict[str, Any] | None = None,
    others: dict[str, Any] | None = None,
):
    """Return three arms of two seeds; ``changed`` is what the last one has otherwise."""
    folders = []
    for peft in ("lora", "ia3", "prompt"):
        own = {"peft": {"name": peft, "learning_rate": peft}, "trainer": {"max_steps": 10}}
        if peft == "prompt":
            own |= config or {}
        for seed in (0, 1):
            # Seeds draw other rows, so that their token counts differ in every arm alike.
            changes = {"performance.num_target_tokens_seen": 2000 + seed}
            changes |= changed if peft == "prompt" else others or {}
            folders.append(
                write_run(
                    folder / f"{peft}{seed}", overrides=[f"peft={peft}"], seed=seed, config=own,
                    changes=changes,
                )
            )  # fmt: skip
    return group_into_arms(read_runs(folders).runs)


def test_arms_that_were_made_alike_have_no_marks(tmp_path: Path) -> None:
    fairness = check_fairness(arms_of(tmp_path, {}))
    assert [finding.aspect for finding in fairness.findings] == ["option peft.learning_rate"]
    assert fairness.findings[0].follows
    assert fairness.marks("prompt") == []
    assert {"training rows", "optimizer steps", "target tokens seen", "seeds", "machine"} <= set(
        fairness.same
    )
    assert "decoding" in fairness.unknown


@pytest.mark.parametrize(
    ("changed", "aspect", "kind"),
    [
        ({"data.ids_fingerprint": {"train": "z", "val": "b", "test": "c"}}, "training rows",
         Kind.ROWS),
        ({"data.ids_fingerprint": {"train": "a", "val": "b", "test": "z"}}, "test rows", Kind.ROWS),
        ({"performance.num_steps": 11}, "optimizer steps", Kind.BUDGET),
        ({"performance.num_target_tokens_seen": 2001}, "target tokens seen", Kind.BUDGET),
        ({"audit.mask": {"test": {"num_target_tokens": 501}}}, "target tokens of the test rows",
         Kind.EVALUATION),
        ({"audit.evaluation": {"decoding": {"do_sample": True}}}, "decoding", Kind.EVALUATION),
        ({"audit.evaluation": {"excluded": {"p1": "why"}}}, "problems excluded from scores",
         Kind.EVALUATION),
        ({"environment.sandbox_level": "none"}, "how generated code was run", Kind.EVALUATION),
        ({"model.weights_fingerprint": "sha256:1"}, "base weights", Kind.BASE),
    ],
)  # fmt: skip
def test_an_arm_with_other_conditions_is_marked(
    tmp_path: Path, changed: dict, aspect: str, kind: Kind
) -> None:
    fairness = check_fairness(arms_of(tmp_path, changed))
    assert fairness.marks("prompt") == [aspect]
    assert fairness.marks("lora") == []
    (finding,) = [item for item in fairness.findings if not item.follows]
    assert finding.kind is kind
    assert finding.odd_arms == ("prompt",)


def test_other_software_is_named_but_marks_no_arm(tmp_path: Path) -> None:
    fairness = check_fairness(arms_of(tmp_path, {"environment.packages": {"torch": "1.0"}}))
    assert "package versions" in [finding.aspect for finding in fairness.findings]
    assert fairness.marks("prompt") == []


def test_an_option_besides_the_factor_is_named(tmp_path: Path) -> None:
    fairness = check_fairness(arms_of(tmp_path, {}, {"trainer": {"max_steps": 12}}))
    assert fairness.marks("prompt") == ["option trainer.max_steps"]


def test_the_values_are_in_words(tmp_path: Path) -> None:
    arms = arms_of(tmp_path, {"performance.num_target_tokens_seen": 12345})
    (finding,) = [f for f in check_fairness(arms).findings if f.aspect == "target tokens seen"]
    assert finding.values == {
        "lora": "2,000 to 2,001", "ia3": "2,000 to 2,001", "prompt": "12,345"
    }  # fmt: skip


def test_other_seeds_are_named(tmp_path: Path) -> None:
    folders = [
        write_run(tmp_path / f"{peft}{seed}", overrides=[f"peft={peft}"], seed=seed)
        for peft, seed in [("lora", 0), ("lora", 1), ("ia3", 0)]
    ]
    fairness = check_fairness(group_into_arms(read_runs(folders).runs))
    assert fairness.marks("ia3") == ["seeds"]


def test_a_base_model_is_not_asked_how_it_was_trained(tmp_path: Path) -> None:
    base = write_run(tmp_path / "a", changes={"performance.num_steps": None, "data": {}})
    tuned = write_run(tmp_path / "b", changes={"environment.sandbox_level": "none"})
    runs = read_runs([base, tuned]).runs
    fairness = check_evaluations([Arm("before", {}, (runs[0],)), Arm("after", {}, (runs[1],))])
    assert [finding.aspect for finding in fairness.findings] == [
        "test rows", "how generated code was run"
    ]  # fmt: skip


def test_steps_follow_from_a_common_budget_of_time(tmp_path: Path) -> None:
    clock = {"data.budget": {"name": "time", "max_seconds": 60.0}}
    for folder, other, marks in (
        ("same", clock, []),
        ("longer", {"data.budget": {"name": "time", "max_seconds": 90.0}},
         ["optimizer steps", "target tokens seen"]),
        ("steps", {}, ["optimizer steps", "target tokens seen"]),
    ):  # fmt: skip
        more = {"performance.num_steps": 14, "performance.num_target_tokens_seen": 2800, **other}
        arms = arms_of(tmp_path / folder, more, others=clock)
        fairness = check_fairness(arms)
        assert fairness.marks("prompt") == marks, folder
        (steps,) = [item for item in fairness.findings if item.aspect == "optimizer steps"]
        assert steps.values == {"lora": "10", "ia3": "10", "prompt": "14"}


def test_steps_follow_from_a_common_budget_of_tokens_but_tokens_do_not(tmp_path: Path) -> None:
    budget = {"data.budget": {"name": "target_tokens", "max_target_tokens": 3000}}
    more = {"performance.num_steps": 14, "performance.num_target_tokens_seen": 2800, **budget}
    fairness = check_fairness(arms_of(tmp_path, more, others=budget))
    assert fairness.marks("prompt") == ["target tokens seen"]


def test_an_arm_that_misses_its_budget_of_parameters_is_marked(tmp_path: Path) -> None:
    kept = {
        "name": "params",
        "max_trainable_parameters": 9000,
        "num_trainable_parameters": 9100,
        "within_tolerance": True,
    }
    missed = kept | {"num_trainable_parameters": 10500, "within_tolerance": False}
    name = "budget of trainable parameters"
    others = {"data.budget": kept}
    fair = check_fairness(arms_of(tmp_path / "a", {"data.budget": kept}, others=others))
    assert name in fair.same and fair.marks("prompt") == []
    unfair = check_fairness(arms_of(tmp_path / "b", {"data.budget": missed}, others=others))
    assert unfair.marks("prompt") == [name]
    assert unfair.marks("lora") == []
    (finding,) = [item for item in unfair.findings if item.aspect == name]
    assert finding.values == {"lora": "kept", "ia3": "kept", "prompt": "10,500 instead of 9,000"}
    assert name not in check_fairness(arms_of(tmp_path / "c", {})).same
