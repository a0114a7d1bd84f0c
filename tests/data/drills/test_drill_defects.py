"""Defect drills: every defect shows, every sound function is sound, and the exact formats."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from ift_lightning.data.drills import defect_to_chat, generate_defects
from ift_lightning.data.drills.composition import composition_names
from ift_lightning.data.drills.defects import (
    DEFECTIVE,
    SOUND,
    SUBTYPE_LABELS,
    generate_defects_with_code,
)
from ift_lightning.data.drills.mutations import SUBTYPES, call, passes

DEFAULT_SIZES = {"train": 2000, "val": 200, "test": 200}


@pytest.fixture(scope="module")
def default_set() -> dict[str, list]:
    return {
        split: list(generate_defects_with_code(split, size))
        for split, size in DEFAULT_SIZES.items()
    }


def test_every_defect_fails_a_test_and_every_sound_function_passes(default_set) -> None:
    for rows in default_set.values():
        for raw, code, drill in rows:
            assert passes(code, drill.tests) == (raw["output"]["judgement"] == SOUND)


def test_mutated_inputs_return_the_right_value_but_change_the_argument(default_set) -> None:
    label = SUBTYPE_LABELS["mutated_input"]
    rows = [row for row in default_set["train"] if row[0]["instruction"][0]["subtype"] == label]
    for _, code, drill in rows:
        outcomes = [(call(code, test["args"][0]), test) for test in drill.tests]
        assert any(after != test["args"][0] for (_, _, after), test in outcomes)


def test_subtypes_are_many_and_balanced(default_set) -> None:
    assert len(SUBTYPES) >= 8 and set(SUBTYPE_LABELS) == set(SUBTYPES)
    counts = Counter(raw["instruction"][0]["subtype"] for raw, _, _ in default_set["train"])
    assert counts.pop(SOUND) == 1000
    assert counts == dict.fromkeys(SUBTYPE_LABELS.values(), 1000 // len(SUBTYPES))


def test_splits_share_no_composition(default_set) -> None:
    compositions = [
        {composition_names(drill.steps) for _, _, drill in rows} for rows in default_set.values()
    ]
    assert not compositions[0] & compositions[1]
    assert not compositions[0] & compositions[2]
    assert not compositions[1] & compositions[2]


def test_raw_form() -> None:
    for raw in generate_defects("val", 30):
        assert list(raw) == ["instruction", "input", "output"]
        assert [list(entry) for entry in raw["instruction"]] == [["subtype"]]
        assert list(raw["input"]) == ["task", "event", "output_format"]
        assert list(raw["output"]) == ["judgement", "reason"]
        is_sound = raw["instruction"][0]["subtype"] == SOUND
        assert raw["output"]["judgement"] == (SOUND if is_sound else DEFECTIVE)
        assert json.loads(json.dumps(raw, ensure_ascii=False)) == raw


def test_chat_form_has_the_exact_labels() -> None:
    raw = {
        "instruction": [{"subtype": "差一错误"}],
        "input": {"task": "T", "event": "E", "output_format": "F"},
        "output": {"judgement": "J", "reason": "R"},
    }
    assert defect_to_chat(raw) == {
        "subtype": "差一错误",
        "text": [
            {"role": "user", "content": "任务：T\n\n事件：\nE\n\n输出格式：\nF"},
            {"role": "assistant", "content": "判断:J\n\n原因：R"},
        ],
    }


def test_same_seed_same_records() -> None:
    assert list(generate_defects("test", 20)) == list(generate_defects("test", 40))[:20]
    assert list(generate_defects("test", 20)) != list(generate_defects("test", 20, seed=1))


def test_unknown_split_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown split"):
        next(generate_defects("dev", 1))
