"""The default set of drills: right references, sharp tests, disjoint splits."""

from __future__ import annotations

import ast
import copy
import itertools
import json
import time
from collections import Counter

import pytest

from ift_lightning.data.drills import RUNNABLE_KINDS, TASK_KINDS, generate_drills
from ift_lightning.data.drills.composition import composition_names
from ift_lightning.data.drills.tasks import generate_drills_with_steps
from ift_lightning.types import REASONING_LEVELS, json_fingerprint

DEFAULT_SIZES = {"train": 2000, "val": 200, "test": 200}


@pytest.fixture(scope="module")
def default_set() -> dict[str, list]:
    return {
        split: list(generate_drills_with_steps(split, size))
        for split, size in DEFAULT_SIZES.items()
    }


def _passes(source: str, record) -> bool:
    namespace: dict = {}
    try:
        exec(source, namespace)
        for test in record.tests:
            result = namespace[record.entry_point](*copy.deepcopy(test["args"]))
            if type(result) is not type(test["expected"]) or result != test["expected"]:
                return False
    except Exception:
        return False
    return True


def _records(default_set) -> list:
    return [record for rows in default_set.values() for record, _ in rows]


def test_references_pass_and_given_code_that_needs_work_fails(default_set) -> None:
    for record in _records(default_set):
        if record.category in RUNNABLE_KINDS:
            assert _passes(record.output, record), record
        if record.category in ("complete", "repair"):
            assert not _passes(record.input, record), record


def test_runnable_records_carry_tests_with_edge_cases_as_json(default_set) -> None:
    for record in _records(default_set):
        is_runnable = record.category in RUNNABLE_KINDS
        assert bool(record.tests) == bool(record.entry_point) == is_runnable
        if not is_runnable:
            continue
        assert len(record.tests) >= 6
        assert record.tests[0]["args"][0] in ([], "", {}, 0)
        assert json.loads(json.dumps(record.tests)) == record.tests
        values = [repr(test["expected"]) for test in record.tests]
        assert len(set(values)) >= (2 if values[0] in ("True", "False") else 4)


def test_predicted_values_are_what_the_code_returns(default_set) -> None:
    for record in _records(default_set):
        if record.category != "predict":
            continue
        name = record.input.split("(")[0].removeprefix("def ")
        call = record.instruction[record.instruction.index(name + "(") :]
        call = call[: call.rindex(")") + 1]
        namespace: dict = {}
        exec(record.input, namespace)
        assert eval(call, namespace) == ast.literal_eval(record.output)


def test_instruction_states_the_names_that_the_answer_needs(default_set) -> None:
    for record in _records(default_set):
        if record.category in RUNNABLE_KINDS:
            given = record.instruction + record.input
            parameter = record.output.partition("(")[2].partition(")")[0]
            assert record.entry_point in given
            assert parameter in given


def test_every_record_has_reasoning_at_three_levels(default_set) -> None:
    for rows in default_set.values():
        for record, steps in rows:
            assert set(record.reasoning) == set(REASONING_LEVELS)
            assert "\n" not in record.reasoning["simple"]
            assert record.reasoning["normal"].count("\n") >= len(steps) - 1
            assert record.reasoning["complex"].count("becomes") == len(steps)


def test_comments_name_every_step(default_set) -> None:
    for rows in default_set.values():
        for record, steps in rows:
            if record.category in RUNNABLE_KINDS:
                assert record.output.count("    # ") == len(steps)


def test_splits_share_no_composition(default_set) -> None:
    compositions = {
        split: {composition_names(steps) for _, steps in rows}
        for split, rows in default_set.items()
    }
    for first, second in itertools.combinations(compositions.values(), 2):
        assert not first & second


def test_ids_are_unique_and_tasks_do_not_repeat(default_set) -> None:
    records = _records(default_set)
    assert len({record.id for record in records}) == len(records)
    texts = {(record.instruction, record.input) for record in records}
    assert len(texts) > 0.99 * len(records)


def test_kinds_have_their_shares(default_set) -> None:
    counts = Counter(record.category for record, _ in default_set["train"])
    for kind, share in TASK_KINDS.items():
        assert counts[kind] / 2000 == pytest.approx(share / 100, abs=0.03)


def test_same_seed_same_records_and_more_records_only_add() -> None:
    short = [record.to_json() for record in generate_drills("val", 40, seed=3)]
    long = [record.to_json() for record in generate_drills("val", 80, seed=3)]
    assert long[:40] == short
    assert short != [record.to_json() for record in generate_drills("val", 40, seed=4)]


def test_first_records_stay_what_they_are() -> None:
    """Pins the version: a change here needs a new ``DRILLS_VERSION``."""
    rows = [record.to_json() for record in generate_drills("test", 50)]
    assert rows[0]["id"] == "drills-v1-0-test-000000"
    assert json_fingerprint(rows) == "de5a1608e1a4eb7e"


def test_a_hundred_thousand_records_take_less_than_a_minute() -> None:
    start = time.process_time()
    num_records = 2000
    for _ in generate_drills("train", num_records, seed=9):
        pass
    assert (time.process_time() - start) * 100_000 / num_records < 60


def test_unknown_split_is_refused() -> None:
    with pytest.raises(ValueError, match="Did you mean 'train'"):
        next(generate_drills("trian", 1))
