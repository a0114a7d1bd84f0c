"""Loss weights: by the role of a segment, and higher on key tokens."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ift_lightning.errors import UserError, suggest
from ift_lightning.templating.tokenization import SegmentTokens
from ift_lightning.types import Role

DEFAULT_ROLE_WEIGHTS: Mapping[Role, float] = {
    Role.PROMPT: 0.0,
    Role.REASONING: 1.0,
    Role.ANSWER: 1.0,
    Role.END: 1.0,
}


@dataclass(frozen=True)
class KeyTokens:
    """Tokens that weigh more: those that touch a match of a literal or a regular expression.

    Args:
        weight: Factor on the weight of the token's role.
        literal: Text to find, every occurrence.
        regex: Python regular expression; where it has groups, only what group 1 covers counts.
        roles: Roles in which to look.

    Raises:
        UserError: Not exactly one of ``literal`` and ``regex``; a bad expression, role or weight.
    """

    weight: float
    literal: str | None = None
    regex: str | None = None
    roles: Sequence[str] = ("answer",)
    pattern: re.Pattern[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if bool(self.literal) == bool(self.regex):
            raise UserError("loss.key_tokens: give exactly one of literal and regex")
        if not _is_weight(self.weight):
            raise UserError(
                f"loss.key_tokens: weight {self.weight} must be a finite number, at least 0"
            )
        for role in self.roles:
            if role not in set(Role):
                raise UserError(f"loss.key_tokens: no role '{role}'. {suggest(role, list(Role))}")
        try:
            pattern = re.compile(self.regex or re.escape(self.literal or ""))
        except re.error as error:
            raise UserError(f"loss.key_tokens: regex {self.regex!r}: {error}") from error
        object.__setattr__(self, "pattern", pattern)

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Return the half-open character spans in ``text`` whose tokens weigh more, unsorted."""
        group = 1 if self.pattern.groups else 0
        return [
            match.span(group)
            for match in self.pattern.finditer(text)
            if match.end(group) > match.start(group)
        ]


def _is_weight(value: float) -> bool:
    return math.isfinite(value) and value >= 0


class LossWeights:
    """Weighs tokens by role and key-token rules; where several rules match, factors multiply.

    One rule counts once for a token, however many of its matches the token touches.

    Args:
        roles: Weight of each role; a missing role has its default.
        key_tokens: Rules for tokens that weigh more.

    Raises:
        UserError: There is no such role, a weight is negative or not finite, or all are zero.
    """

    def __init__(
        self, roles: Mapping[str, float] | None = None, key_tokens: Sequence[KeyTokens] = ()
    ) -> None:
        for role in roles or {}:
            if role not in set(Role):
                raise UserError(f"loss.role_weights: no role '{role}'. {suggest(role, list(Role))}")
        self.roles = {
            role: float((roles or {}).get(role, default))
            for role, default in DEFAULT_ROLE_WEIGHTS.items()
        }
        for name, weight in self.roles.items():
            if not _is_weight(weight):
                raise UserError(
                    f"loss.role_weights.{name}={weight} must be a finite number, at least 0"
                )
        if not any(self.roles.values()):
            raise UserError("loss.role_weights: every weight is 0, so nothing would be trained on")
        self.key_tokens = tuple(key_tokens)

    def of(self, tokens: SegmentTokens) -> list[float]:
        """Return a weight for each token of a segment."""
        role = tokens.segment.role
        weights = [self.roles[role]] * len(tokens.input_ids)
        for rule in self.key_tokens:
            if role not in rule.roles:
                continue
            for index in _touching(tokens.offsets, rule.spans(tokens.segment.text)):
                weights[index] *= rule.weight
        return weights


def _touching(offsets: Sequence[tuple[int, int]], spans: Sequence[tuple[int, int]]) -> list[int]:
    """Return which of the tokens at ``offsets``, in order, share a character with a span."""
    ordered = sorted(spans)
    touching = []
    first = 0  # of the spans that do not end before the token
    for index, (start, stop) in enumerate(offsets):
        while first < len(ordered) and ordered[first][1] <= start:
            first += 1
        if first == len(ordered):
            break
        if start < stop and ordered[first][0] < stop:
            touching.append(index)
    return touching
