"""Train and test with the same strata in both, and near-duplicates on one side."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from ift_lightning.errors import UserError


@dataclass(frozen=True, slots=True)
class Division:
    """Which rows are test rows.

    Args:
        is_test: For each row, in the order of the rows.
        single: Strata that cannot be divided, since they have one row, or only near-duplicates of
            one another.
        without_test: Strata of several groups that have no test row nevertheless: every group of
            theirs holds near-duplicates in a stratum that would lose its last training row.
    """

    is_test: tuple[bool, ...]
    single: tuple[str, ...]
    without_test: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Group:
    """Rows that stay together."""

    rows: tuple[int, ...]
    sizes: Counter[str]  # stratum -> rows


def divide(
    strata: Sequence[str],
    groups: Sequence[Hashable],
    *,
    test_ratio: float,
    seed: int = 0,
    single_to_test: bool = False,
) -> Division:
    """Draw test rows, ``test_ratio`` of each stratum, at least one, and never all.

    Rows of a group stay together, so a stratum may have a few test rows fewer than its share.

    Args:
        strata: Stratum of each row.
        groups: Key of each row; rows with equal keys are on one side.
        test_ratio: Share of test rows, above 0 and below 1.
        seed: Another seed, another draw. The draw depends on keys, not on the order of rows.
        single_to_test: Where rows go whose stratum cannot be divided.

    Raises:
        UserError: ``test_ratio`` is out of range.
    """
    if not 0 < test_ratio < 1:
        raise UserError(f"test_ratio={test_ratio} has to be above 0 and below 1")
    drawn = _draw_order(strata, groups, seed)
    num_groups: Counter[str] = Counter()
    for group in drawn:
        num_groups.update(group.sizes.keys())
    totals = Counter(strata)
    single = {stratum for stratum, count in num_groups.items() if count == 1}
    # Rounded half up, and so that both sides have a row.
    wanted = {
        stratum: min(max(1, int(total * test_ratio + 0.5)), total - 1)
        for stratum, total in totals.items()
        if stratum not in single
    }
    counts: Counter[str] = Counter()
    chosen: set[int] = set()

    def take(index: int) -> None:
        chosen.add(index)
        counts.update(drawn[index].sizes)

    for index, group in enumerate(drawn):
        shared = group.sizes.keys() & wanted.keys()
        if not shared:
            if single_to_test:
                take(index)
        elif all(counts[name] + group.sizes[name] <= wanted[name] for name in shared):
            take(index)
    # A stratum whose groups are all larger than its share.
    for stratum in sorted(wanted):
        if counts[stratum]:
            continue
        possible = [
            index
            for index, group in enumerate(drawn)
            if stratum in group.sizes
            and all(
                counts[name] + group.sizes[name] < totals[name]
                for name in group.sizes.keys() & wanted.keys()
            )
        ]
        if possible:
            take(min(possible, key=lambda index: len(drawn[index].rows)))
    test_rows = {row for index in chosen for row in drawn[index].rows}
    return Division(
        tuple(row in test_rows for row in range(len(strata))),
        tuple(sorted(single)),
        tuple(sorted(stratum for stratum in wanted if not counts[stratum])),
    )


def _draw_order(strata: Sequence[str], groups: Sequence[Hashable], seed: int) -> list[_Group]:
    """Return the groups in an order that the seed and their keys decide."""
    members: dict[Hashable, list[int]] = {}
    for row, key in enumerate(groups):
        members.setdefault(key, []).append(row)
    made = [
        (
            hashlib.sha256(f"{seed}:{key!r}".encode("utf-8", "surrogatepass")).digest(),
            _Group(tuple(rows), Counter(strata[row] for row in rows)),
        )
        for key, rows in members.items()
    ]
    return [group for _, group in sorted(made, key=lambda pair: pair[0])]
