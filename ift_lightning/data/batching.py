"""Plans whole optimizer steps: which rows, on which rank, in which micro-batch.

The loss of a step is a weighted mean over all its supervised tokens, whatever micro-batch or rank
they are in. The planner knows every row's weight beforehand, so each micro-batch carries the
step's total as its divisor, and no communication is needed to agree on it.

Every step has the same number of micro-batches on every rank. Where rows are too few (the last
step of an epoch), a micro-batch is a filler: one row whose weights are set to zero. Ranks thus
stay in step with each other, and accumulation with its boundaries.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ift_lightning.errors import UserError


@dataclass(frozen=True, slots=True)
class PlannedMicroBatch:
    """Rows that go through the model together.

    ``rows`` are indices into the split; ``step_weight`` is the sum of the loss weights of all rows
    of the optimizer step; a ``filler`` counts for nothing.
    """

    rows: tuple[int, ...]
    step_weight: float
    filler: bool = False


class StepPlanner:
    """Lays out training as a fixed sequence of optimizer steps, the same on every machine.

    Args:
        lengths: Tokens of each row, int [rows].
        weights: Sum of loss weights of each row, float [rows].
        global_batch_size: Rows per optimizer step, over all ranks.
        micro_batch_size: Rows that go through the model at once, at most.
        world_size: Number of ranks.
        seed: Order of the rows.
        shuffle_window: Steps whose rows are sorted by length together before they are cut into
            steps; 1 draws every step at random. Larger windows pad less and mix less. The rows of
            a last step that is not full are always drawn at random.
        num_targets: Target tokens of each row, int [rows]; needed to count them.
        max_target_tokens: Budget of the run. The plan ends with the last row, in the order of
            training, that fits into it, so two plans with one budget differ by less than a row.

    Raises:
        UserError: There are no rows, a size is not positive, or the budget is below one row.
    """

    def __init__(
        self,
        lengths: npt.NDArray[np.int64],
        weights: npt.NDArray[np.float64],
        *,
        global_batch_size: int,
        micro_batch_size: int,
        world_size: int = 1,
        seed: int = 0,
        shuffle_window: int = 1,
        num_targets: npt.NDArray[np.int64] | None = None,
        max_target_tokens: int | None = None,
    ) -> None:
        if len(lengths) == 0:
            raise UserError("there is no row to train on")
        for name, value in (
            ("trainer.global_batch_size", global_batch_size),
            ("trainer.micro_batch_size", micro_batch_size),
            ("data.shuffle_window", shuffle_window),
        ):
            if value < 1:
                raise UserError(f"{name}={value} has to be at least 1")
        if global_batch_size % world_size:
            raise UserError(
                f"trainer.global_batch_size={global_batch_size} cannot be divided evenly among "
                f"{world_size} processes"
            )
        self.lengths = lengths
        self.weights = weights
        self.global_batch_size = global_batch_size
        self.micro_batch_size = micro_batch_size
        self.world_size = world_size
        self.seed = seed
        self.shuffle_window = shuffle_window
        self.num_targets = num_targets
        self._order_of_epoch: tuple[int, npt.NDArray[np.int64]] | None = None
        self._num_planned_rows: int | None = None
        if max_target_tokens is not None:
            self._num_planned_rows = self._rows_within(max_target_tokens)

    def _rows_within(self, max_target_tokens: int) -> int:
        """Return how many rows, repeated epoch after epoch, a budget of target tokens holds."""
        assert self.num_targets is not None
        num_epochs, left = divmod(max_target_tokens, int(self.num_targets.sum()))
        sums = np.cumsum(self.num_targets[self._order(num_epochs)])
        num_rows = num_epochs * len(self.lengths) + int(np.searchsorted(sums, left, side="right"))
        if num_rows == 0:
            raise UserError(
                f"budget.max_target_tokens={max_target_tokens} is below the {int(sums[0])} target "
                "tokens of the first training row"
            )
        return num_rows

    @property
    def num_planned_steps(self) -> int | None:
        """Optimizer steps that the budget of target tokens allows; None without a budget."""
        if self._num_planned_rows is None:
            return None
        num_epochs, rest = divmod(self._num_planned_rows, len(self.lengths))
        return num_epochs * self.steps_per_epoch + math.ceil(rest / self.global_batch_size)

    def num_target_tokens(self, num_steps: int) -> int:
        """Return the target tokens of the first ``num_steps`` optimizer steps, over all ranks."""
        assert self.num_targets is not None
        # The last step may be cut short by the budget, also where it ends an epoch.
        num_epochs = max(num_steps - 1, 0) // self.steps_per_epoch
        total = num_epochs * int(self.num_targets.sum())
        for step in range(num_epochs * self.steps_per_epoch, num_steps):
            total += int(self.num_targets[self.rows_of_step(step)].sum())
        return total

    @property
    def micro_batches_per_step(self) -> int:
        """Micro-batches per optimizer step on each rank."""
        return math.ceil(self.global_batch_size / (self.micro_batch_size * self.world_size))

    @property
    def steps_per_epoch(self) -> int:
        return math.ceil(len(self.lengths) / self.global_batch_size)

    def rows_of_step(self, step: int) -> npt.NDArray[np.int64]:
        """Return the row indices of optimizer step ``step`` (from 0), in no particular order."""
        epoch, position = divmod(step, self.steps_per_epoch)
        order = self._order(epoch)
        start = position * self.global_batch_size
        stop = start + self.global_batch_size
        if self._num_planned_rows is not None:
            stop = min(stop, self._num_planned_rows - epoch * len(self.lengths))
        assert stop > start, "the plan has ended"
        return order[start:stop]

    def _order(self, epoch: int) -> npt.NDArray[np.int64]:
        if self._order_of_epoch is None or self._order_of_epoch[0] != epoch:
            self._order_of_epoch = (epoch, self._shuffled(epoch))
        return self._order_of_epoch[1]

    def _shuffled(self, epoch: int) -> npt.NDArray[np.int64]:
        generator = np.random.default_rng((self.seed, epoch))
        order = generator.permutation(len(self.lengths))
        if self.shuffle_window == 1:
            return order
        size = self.global_batch_size
        # A step that is not full stays at the end and takes no part in the sorting: otherwise the
        # longest rows would end up in it, epoch after epoch.
        num_sorted = len(order) // size * size
        window = size * self.shuffle_window
        for start in range(0, num_sorted, window):
            rows = order[start : min(start + window, num_sorted)]
            order[start : start + len(rows)] = rows[np.argsort(self.lengths[rows], kind="stable")]
        # Steps of short rows must not always come first.
        steps = generator.permutation(order[:num_sorted].reshape(-1, size))
        return np.concatenate([steps.reshape(-1), order[num_sorted:]])

    def step(self, step: int) -> list[list[PlannedMicroBatch]]:
        """Return the micro-batches of optimizer step ``step``, one list per rank."""
        rows = self.rows_of_step(step)
        # A total of zero only occurs where key-token weights cancel every row; nothing is learnt.
        step_weight = float(self.weights[rows].sum()) or 1.0
        rows = rows[np.argsort(self.lengths[rows], kind="stable")]
        count = self.micro_batches_per_step * self.world_size
        chunks = [tuple(int(row) for row in chunk) for chunk in np.array_split(rows, count)]
        planned = [
            PlannedMicroBatch(chunk, step_weight)
            if chunk
            else PlannedMicroBatch((int(rows[0]),), step_weight, filler=True)
            for chunk in chunks
        ]
        # Neighbours in length go to different ranks, so that ranks finish together.
        return [planned[rank :: self.world_size] for rank in range(self.world_size)]

    def micro_batches(self, rank: int, first: int, stop: int) -> Iterator[PlannedMicroBatch]:
        """Yield one rank's micro-batches number ``first`` to ``stop`` (exclusive) of the run."""
        per_step = self.micro_batches_per_step
        current: tuple[int, list[PlannedMicroBatch]] | None = None
        for index in range(first, stop):
            step, position = divmod(index, per_step)
            if current is None or current[0] != step:
                current = (step, self.step(step)[rank])
            yield current[1][position]


def plan_evaluation(
    lengths: npt.NDArray[np.int64], *, batch_size: int, rank: int = 0, world_size: int = 1
) -> list[PlannedMicroBatch]:
    """Plan one pass over all rows, longest first, so that memory runs out at once or not at all.

    Args:
        lengths: Tokens of each row, int [rows].
        batch_size: Rows per micro-batch.
        rank: This process.
        world_size: Number of processes; every one gets as many micro-batches as the others.
    """
    order = np.argsort(-lengths, kind="stable")
    chunks = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    planned = [PlannedMicroBatch(tuple(int(row) for row in chunk), 1.0) for chunk in chunks]
    while len(planned) % world_size:
        planned.append(PlannedMicroBatch((int(order[-1]),), 1.0, filler=True))
    return planned[rank::world_size]
