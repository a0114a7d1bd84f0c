"""Every row once, every rank in step, and the same steps however they are cut."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ift_lightning.data.batching import PlannedMicroBatch, StepPlanner, plan_evaluation
from ift_lightning.errors import UserError


def planner(
    lengths: Any, *, batch: int, micro: int, world: int = 1, seed: int = 0, window: int = 1
) -> StepPlanner:
    lengths = np.asarray(lengths, dtype=np.int64)
    weights = lengths * 0.25 + np.arange(len(lengths)) + 1.0
    return StepPlanner(
        lengths,
        weights,
        global_batch_size=batch,
        micro_batch_size=micro,
        world_size=world,
        seed=seed,
        shuffle_window=window,
    )


def rows_that_count(step: list[list[PlannedMicroBatch]]) -> list[int]:
    return [row for rank in step for item in rank if not item.filler for row in item.rows]


@st.composite
def plans(draw: st.DrawFn) -> StepPlanner:
    world = draw(st.integers(1, 4))
    return planner(
        draw(st.lists(st.integers(1, 50), min_size=1, max_size=60)),
        batch=world * draw(st.integers(1, 6)),
        micro=draw(st.integers(1, 7)),
        world=world,
        seed=draw(st.integers(0, 9)),
        window=draw(st.integers(1, 5)),
    )


@settings(max_examples=150, deadline=None)
@given(plans(), st.integers(0, 2))
def test_plan_of_an_epoch(plan: StepPlanner, epoch: int) -> None:
    num_rows, size = len(plan.lengths), plan.global_batch_size
    seen: Counter[int] = Counter()
    for position in range(plan.steps_per_epoch):
        step = plan.step(epoch * plan.steps_per_epoch + position)
        rows = rows_that_count(step)
        seen.update(rows)
        # Every rank has as many micro-batches, of the size that was asked for at most.
        assert len(step) == plan.world_size
        assert {len(rank) for rank in step} == {plan.micro_batches_per_step}
        items = [item for rank in step for item in rank]
        assert all(1 <= len(item.rows) <= plan.micro_batch_size for item in items)
        # Fillers only where rows run out; they are rows of the step, and count for nothing.
        assert sum(item.filler for item in items) == max(0, len(items) - len(rows))
        assert all(set(item.rows) <= set(rows) for item in items if item.filler)
        is_last = position == plan.steps_per_epoch - 1
        assert len(rows) == (num_rows - size * position if is_last else size)
        # The divisor is the sum over the step, and the same in each of its micro-batches.
        expected = float(sum(plan.weights[row] for row in rows))
        assert len({item.step_weight for item in items}) == 1
        assert items[0].step_weight == pytest.approx(expected, rel=1e-12)
    assert seen == Counter(range(num_rows))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 50), min_size=1, max_size=60),
    st.integers(1, 3),
    st.integers(1, 4),
    st.integers(0, 5),
)
def test_steps_do_not_depend_on_how_they_are_cut(
    lengths: list[int], factor: int, window: int, step: int
) -> None:
    batch = 12 * factor
    cuts = [
        planner(lengths, batch=batch, micro=micro, world=world, seed=3, window=window).step(step)
        for world in (1, 2, 3, 4)
        for micro in (1, 2, 5, batch)
    ]
    assert len({tuple(sorted(rows_that_count(cut))) for cut in cuts}) == 1
    assert len({item.step_weight for cut in cuts for rank in cut for item in rank}) == 1


def test_steps_do_not_depend_on_the_order_in_which_they_are_asked_for() -> None:
    lengths = np.random.default_rng(0).integers(1, 90, 37)
    plan = planner(lengths, batch=8, micro=3, world=2, window=2)
    total = 3 * plan.steps_per_epoch
    forwards = [plan.step(index) for index in range(total)]
    fresh = planner(lengths, batch=8, micro=3, world=2, window=2)
    assert [fresh.step(index) for index in reversed(range(total))] == forwards[::-1]
    for rank in (0, 1):
        whole = [item for step in forwards for item in step[rank]]
        assert list(plan.micro_batches(rank, 0, len(whole))) == whole
        # From the middle of a step to the middle of another.
        assert list(plan.micro_batches(rank, 3, len(whole) - 1)) == whole[3:-1]
    assert list(plan.micro_batches(0, 5, 5)) == []


def orders(plan: StepPlanner, num_epochs: int = 2) -> list[list[int]]:
    per_epoch = plan.steps_per_epoch
    return [
        np.concatenate(
            [plan.rows_of_step(epoch * per_epoch + i) for i in range(per_epoch)]
        ).tolist()
        for epoch in range(num_epochs)
    ]


def test_seeds_and_epochs_have_orders_of_their_own() -> None:
    lengths = [5] * 40
    first = orders(planner(lengths, batch=4, micro=4, seed=1))
    assert first == orders(planner(lengths, batch=4, micro=4, seed=1))
    second = orders(planner(lengths, batch=4, micro=4, seed=2))
    assert len({tuple(order) for order in first + second}) == 4


@pytest.mark.parametrize("window", [2, 3, 100])
def test_shuffle_window_sorts_within_windows_only(window: int) -> None:
    size, num_rows = 4, 42  # ten full steps and two rows
    lengths = np.random.default_rng(1).permutation(num_rows) + 1  # all different
    plan = planner(lengths, batch=size, micro=size, seed=7, window=window)
    drawn = np.random.default_rng((7, 0)).permutation(num_rows)
    expected = []
    for start in range(0, 40, size * window):
        rows = sorted(drawn[start : min(start + size * window, 40)], key=lambda row: lengths[row])
        expected += [frozenset(rows[i : i + size]) for i in range(0, len(rows), size)]
    steps = [frozenset(plan.rows_of_step(i).tolist()) for i in range(11)]
    assert set(steps[:10]) == set(expected)
    assert steps[:10] != expected  # steps of short rows do not come first
    assert steps[10] == frozenset(drawn[40:].tolist())


def test_last_short_step_is_a_random_draw_with_a_window_over_everything() -> None:
    plan = planner(np.arange(1, 23), batch=4, micro=4, window=100)
    last = [set(plan.rows_of_step((epoch + 1) * 6 - 1).tolist()) for epoch in range(30)]
    assert all(len(rows) == 2 for rows in last)
    assert len(set().union(*last)) > 12  # not the longest two, epoch after epoch


def test_window_pads_less() -> None:
    lengths = np.random.default_rng(5).integers(10, 500, 640)

    def padded(window: int) -> int:
        plan = planner(lengths, batch=16, micro=8, window=window)
        items = [item for i in range(40) for rank in plan.step(i) for item in rank]
        return sum(len(item.rows) * max(int(lengths[r]) for r in item.rows) for item in items)

    assert padded(8) < 0.85 * padded(1)


def test_ranks_get_neighbours_in_length() -> None:
    (left, right) = planner([10, 20, 30, 40, 50, 60, 70, 80], batch=8, micro=2, world=2).step(0)
    assert [item.rows for item in left] == [(0, 1), (4, 5)]
    assert [item.rows for item in right] == [(2, 3), (6, 7)]


def test_filler_of_a_short_step() -> None:
    plan = planner([10, 20, 30], batch=8, micro=2, world=2)
    (left, right) = plan.step(0)
    assert [(item.rows, item.filler) for item in left] == [((0,), False), ((2,), False)]
    assert [(item.rows, item.filler) for item in right] == [((1,), False), ((0,), True)]


def test_weights_that_cancel_leave_a_divisor() -> None:
    plan = StepPlanner(
        np.array([3, 4]), np.array([0.0, 0.0]), global_batch_size=2, micro_batch_size=2
    )
    assert plan.step(0)[0][0].step_weight == 1.0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"global_batch_size": 0}, "trainer.global_batch_size=0"),
        ({"micro_batch_size": 0}, "trainer.micro_batch_size=0"),
        ({"shuffle_window": 0}, "data.shuffle_window=0"),
        ({"world_size": 3}, "3 processes"),
    ],
)
def test_impossible_sizes_are_refused(changes: dict[str, int], words: str) -> None:
    sizes = {"global_batch_size": 4, "micro_batch_size": 2, **changes}
    with pytest.raises(UserError, match=words):
        StepPlanner(np.array([1]), np.array([1.0]), **sizes)


def test_no_rows_are_refused() -> None:
    with pytest.raises(UserError, match="no row"):
        planner([], batch=2, micro=2)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 50), min_size=1, max_size=60), st.integers(1, 9), st.integers(1, 5))
def test_evaluation_has_each_row_once(lengths: list[int], batch_size: int, world: int) -> None:
    array = np.asarray(lengths, dtype=np.int64)
    ranks = [
        plan_evaluation(array, batch_size=batch_size, rank=rank, world_size=world)
        for rank in range(world)
    ]
    assert Counter(rows_that_count(ranks)) == Counter(range(len(lengths)))
    assert len({len(rank) for rank in ranks}) == 1
    # As few batches as there can be; a filler only makes the ranks even.
    assert len(ranks[0]) == math.ceil(math.ceil(len(lengths) / batch_size) / world)
    assert all(len(item.rows) <= batch_size for rank in ranks for item in rank)
    longest = [lengths[rank[0].rows[0]] for rank in ranks if not rank[0].filler]
    assert longest[0] == max(lengths)
    # The fillers come last, and their row is a short one.
    for rank in ranks:
        assert not any(item.filler for item in rank[:-1])
        assert all(lengths[item.rows[0]] == min(lengths) for item in rank if item.filler)


# --- a budget of target tokens -------------------------------------------------------------------


def budgeted(num_targets: Any, budget: int | None, *, batch: int, **options: Any) -> StepPlanner:
    targets = np.asarray(num_targets, dtype=np.int64)
    return StepPlanner(
        targets + 3,
        targets.astype(np.float64),
        global_batch_size=batch,
        micro_batch_size=2,
        num_targets=targets,
        max_target_tokens=budget,
        **options,
    )


@given(
    st.lists(st.integers(1, 30), min_size=1, max_size=40),
    st.integers(1, 2000),
    st.integers(1, 6),
    st.integers(1, 3),
    st.integers(0, 3),
)
@settings(deadline=None)
def test_a_budget_is_used_up_to_less_than_a_row(
    targets: list[int], budget: int, batch: int, window: int, seed: int
) -> None:
    options: dict[str, Any] = {"batch": batch, "shuffle_window": window, "seed": seed}
    free = budgeted(targets, None, **options)
    order = [int(row) for step in range(2000) for row in free.rows_of_step(step)]
    first = targets[order[0]]
    if budget < first:
        with pytest.raises(UserError, match="budget.max_target_tokens"):
            budgeted(targets, budget, **options)
        return
    plan = budgeted(targets, budget, **options)
    num_steps = plan.num_planned_steps
    assert num_steps is not None
    rows = [row for step in range(num_steps) for row in rows_that_count(plan.step(step))]
    used = sum(targets[row] for row in rows)
    assert used == plan.num_target_tokens(num_steps) <= budget
    # The same rows as without a budget, and the next one would have been too much.
    assert Counter(rows) == Counter(order[: len(rows)])
    assert used + targets[order[len(rows)]] > budget


def test_the_last_step_of_a_budget_has_the_rows_that_fit_and_their_weight() -> None:
    plan = budgeted([10] * 8, 70, batch=4)
    assert plan.num_planned_steps == 2
    assert [len(plan.rows_of_step(step)) for step in (0, 1)] == [4, 3]
    assert {item.step_weight for rank in plan.step(1) for item in rank} == {30.0}
    assert budgeted([10] * 8, 80, batch=4).num_planned_steps == 2
    assert budgeted([10] * 8, 250, batch=4).num_planned_steps == 7
    assert budgeted([10] * 8, None, batch=4).num_planned_steps is None


def test_target_tokens_of_steps_are_counted_over_epochs() -> None:
    plan = budgeted([1, 2, 3, 4, 5], None, batch=2)
    by_hand = [sum(int(r) + 1 for r in plan.rows_of_step(step)) for step in range(8)]
    for num_steps in range(8):
        assert plan.num_target_tokens(num_steps) == sum(by_hand[:num_steps])
