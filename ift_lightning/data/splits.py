"""Which split a row belongs to, decided from its id alone.

A row keeps its split when others are added, removed or reordered, and when a variant of it is
made, since ids survive both.
"""

from __future__ import annotations

import hashlib
import re

from ift_lightning.errors import UserError

# An id made from content, and the number that tells equal rows apart. An id of the source's own
# may end in "#2" for reasons of its own.
_MADE_ID = re.compile(r"([0-9a-f]{16})#[0-9]+")


class HashSplitter:
    """Draws a split for each id: the id's hash is a number in [0, 1) that the shares divide.

    The shares hold on average, not exactly. Exact duplicates (``id#2``) stay on one side.

    Args:
        val_fraction: Share of rows for validation.
        test_fraction: Share of rows for the test.
        seed: Another seed, another division.

    Raises:
        UserError: A share is negative, or they leave nothing.
    """

    def __init__(self, val_fraction: float, test_fraction: float, seed: int = 0) -> None:
        if min(val_fraction, test_fraction) < 0 or val_fraction + test_fraction > 1:
            raise UserError(
                f"data.val_fraction={val_fraction} and data.test_fraction={test_fraction} have to "
                "be at least 0 and at most 1 together"
            )
        self.val_fraction = val_fraction
        self.test_fraction = test_fraction
        self.seed = seed

    def split_of(self, row_id: str) -> str:
        """Return "train", "val" or "test" for a row id."""
        made = _MADE_ID.fullmatch(row_id)
        base = made.group(1) if made else row_id
        digest = hashlib.sha256(f"{self.seed}:{base}".encode("utf-8", "surrogatepass")).digest()
        draw = int.from_bytes(digest[:8], "big") / 2**64
        if draw < self.test_fraction:
            return "test"
        return "val" if draw < self.test_fraction + self.val_fraction else "train"


class MbppSplitter:
    """The split that MBPP's authors drew, by task id (https://arxiv.org/abs/2108.07732).

    Tasks 11 to 510 are the test, 511 to 600 are for validation, 601 to 974 for training; the few
    before are meant for prompts, and count as training rows.

    Raises:
        UserError: An id is no task's.
    """

    def split_of(self, row_id: str) -> str:
        """Return "train", "val" or "test" for a task id."""
        if not row_id.isdecimal() or not 1 <= int(row_id) <= 974:
            raise UserError(
                f"data.split_rule=mbpp goes by MBPP's task ids, 1 to 974, and a row has the id "
                f"'{row_id}'; use data.split_rule=hash for other rows"
            )
        task = int(row_id)
        if 11 <= task <= 510:
            return "test"
        return "val" if 511 <= task <= 600 else "train"
