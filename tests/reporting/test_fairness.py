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


def two_arms(folder: Path, options: list[tuple[str, dict[str, Any], dict[str, Any]]]) -> list[Arm]:
    """Return arms of one seed each: override, what the record has otherwise, config."""
    folders = [
        write_run(folder / str(number), overrides=override.split(), changes=changes, config=config)
        for number, (override, changes, config) in enumerate(options)
    ]
    return group_into_arms(read_runs(folders).runs)


def with_targets(test: int, seen: int, **more: Any) -> dict[str, Any]:
    mask = {"test": {"num_target_tokens": test}}
    return {"audit.mask": mask, "performance.num_target_tokens_seen": seen, **more}


@pytest.mark.parametrize("factor", ["cot_level", "data_variant", "template"])
def test_what_follows_from_the_factor_is_named_and_marks_no_arm(
    tmp_path: Path, factor: str
) -> None:
    room = {"audit.evaluation": {"decoding": [64, "greedy", ["\n"], [0]]}}
    wide = {"audit.evaluation": {"decoding": [96, "greedy", ["\n"], [0]]}}
    arms = two_arms(
        tmp_path,
        [(f"{factor}=a", with_targets(5, 50, **room), {}),
         (f"{factor}=b", with_targets(7, 70, **wide), {})],
    )  # fmt: skip
    fairness = check_fairness(arms)
    named = {finding.aspect: finding for finding in fairness.findings}
    assert named.keys() == {
        "target tokens seen", "target tokens of the test rows", "room for an answer, in tokens"
    }  # fmt: skip
    assert named["target tokens seen"].consequence == f"it follows from {factor}"
    expected = [] if factor != "data_variant" else ["room for an answer, in tokens"]
    assert fairness.marks("a") == fairness.marks("b") == expected


@pytest.mark.parametrize(
    ("factor", "decoding", "marks"),
    [
        ("template", [64, "greedy", ["Q:"], [0]], []),
        ("template", [64, "sampling", 0.8, 0.9, 0, ["\n"], [0]], ["decoding"]),
        ("cot_level", [64, "greedy", ["Q:"], [0]], ["where answers stop"]),
        ("peft", [96, "greedy", ["\n"], [0]], ["room for an answer, in tokens"]),
    ],
)
def test_each_part_of_decoding_has_factors_of_its_own(
    tmp_path: Path, factor: str, decoding: list[Any], marks: list[str]
) -> None:
    usual = {"audit.evaluation": {"decoding": [64, "greedy", ["\n"], [0]]}}
    other = {"audit.evaluation": {"decoding": decoding}}
    fairness = check_fairness(
        two_arms(tmp_path, [(f"{factor}=a", usual, {}), (f"{factor}=b", other, {})])
    )
    assert fairness.marks("b") == marks


def test_a_factor_explains_nothing_between_arms_that_share_its_value(tmp_path: Path) -> None:
    arms = two_arms(
        tmp_path,
        [("cot_level=none peft=lora", with_targets(5, 50), {}),
         ("cot_level=none peft=ia3", with_targets(5, 51), {}),
         ("cot_level=normal peft=lora", with_targets(5, 70), {}),
         ("cot_level=normal peft=ia3", with_targets(5, 70), {})],
    )  # fmt: skip
    assert check_fairness(arms).marks("cot_level=none, peft=lora") == ["target tokens seen"]


def test_of_two_arms_that_differ_none_is_the_odd_one(tmp_path: Path) -> None:
    for order in (("lora", "ia3"), ("ia3", "lora")):
        folder = tmp_path / order[0]
        arms = two_arms(
            folder,
            [(f"peft={peft}", {"performance.num_steps": n}, {}) for n, peft in enumerate(order)],
        )
        fairness = check_fairness(arms)
        assert fairness.marks("lora") == fairness.marks("ia3") == ["optimizer steps"]


def test_loss_weights_are_named(tmp_path: Path) -> None:
    def loss(weight: float | None) -> dict[str, Any]:
        rules = [] if weight is None else [{"weight": weight, "literal": "x", "regex": None}]
        return {"loss": {"name": str(weight), "role_weights": {"answer": 1}, "key_tokens": rules}}

    name = "loss weights of the target tokens"
    for factor, marks in (("loss", []), ("peft", [name, "option loss.key_tokens"])):
        options = [(f"{factor}=a", {}, loss(None)), (f"{factor}=b", {}, loss(4.0))]
        fairness = check_fairness(two_arms(tmp_path / factor, options))
        (found,) = [finding for finding in fairness.findings if finding.aspect == name]
        assert found.values == {"a": "answer 1", "b": "answer 1; 4 for x"}
        assert "weighted losses do not compare" in found.consequence
        assert [mark for mark in fairness.marks("b") if mark != "option loss.name"] == marks


@pytest.mark.parametrize("num_arms", [1, 2])
def test_runs_of_one_arm_are_to_be_made_alike(tmp_path: Path, num_arms: int) -> None:
    folders = []
    for peft in ("lora", "ia3")[:num_arms]:
        for seed in (0, 1):
            rate = 1e-3 if (peft, seed) != ("lora", 1) else 2e-3
            folders.append(
                write_run(
                    tmp_path / f"{peft}{seed}",
                    overrides=[f"peft={peft}"],
                    seed=seed,
                    config={"seed": seed, "peft": {"name": peft, "learning_rate": rate}},
                    changes={"environment.git_commit": f"{seed}" * 16},
                )
            )
    fairness = check_fairness(group_into_arms(read_runs(folders).runs))
    inside = [f for f in fairness.findings if f.aspect.startswith("runs of one arm differ in: ")]
    options, source = sorted(inside, key=lambda finding: finding.kind)
    name = next(iter(options.values))
    assert options.aspect.endswith("option peft.learning_rate")
    assert options.values[name] == "0.001; 0.002"
    assert options.aspect in fairness.marks(name)
    assert source.kind is Kind.MACHINE
    assert source.aspect not in fairness.marks(name)
    if num_arms == 2:
        assert fairness.marks("ia3") == []
