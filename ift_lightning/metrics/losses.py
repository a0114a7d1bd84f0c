"""Loss, perplexity and token accuracy, from sums that can be added up."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ift_lightning.metrics.registry import MetricResult, defines_score

_PERPLEXITY_SOURCE = "https://huggingface.co/docs/transformers/perplexity"


@dataclass(slots=True)
class LossSum:
    """What adds up over tokens, rows, batches and ranks.

    Args:
        weighted_nll: Sum of weight times negative log-likelihood, in nats.
        weight: Sum of the weights.
        num_correct: Targets that were the likeliest token.
        num_targets: Tokens with a weight above 0.
        nll: Sum of their negative log-likelihoods without weights, in nats.
    """

    weighted_nll: float = 0.0
    weight: float = 0.0
    num_correct: int = 0
    num_targets: int = 0
    nll: float = 0.0

    def __add__(self, other: LossSum) -> LossSum:
        return LossSum(
            self.weighted_nll + other.weighted_nll,
            self.weight + other.weight,
            self.num_correct + other.num_correct,
            self.num_targets + other.num_targets,
            self.nll + other.nll,
        )

    @property
    def loss(self) -> float:
        """Mean loss in nats per unit of weight, over prompt-masked targets; lower is better."""
        if self.weight <= 0:
            raise ValueError("there is no target to take the mean over")
        return self.weighted_nll / self.weight

    @property
    def token_accuracy(self) -> float:
        """Share of targets that were the likeliest token, 0 to 1; higher is better."""
        if self.num_targets <= 0:
            raise ValueError("there is no target to take the mean over")
        return self.num_correct / self.num_targets

    @property
    def perplexity(self) -> float:
        """exp of the mean negative log-likelihood of a target, weights aside; lower is better."""
        if self.num_targets <= 0:
            raise ValueError("there is no target to take the mean over")
        return perplexity(self.nll / self.num_targets)


@defines_score(
    "loss", unit="nats per unit of loss weight", higher_is_better=False, source=_PERPLEXITY_SOURCE
)
@defines_score("perplexity", unit="1 or more", higher_is_better=False, source=_PERPLEXITY_SOURCE)
@defines_score("token_accuracy", unit="share of targets, 0 to 1", higher_is_better=True)
def token_losses(items: Sequence[LossSum]) -> MetricResult:
    """Loss, perplexity and token accuracy of items and of all their tokens together.

    The corpus values are of the added sums: a long item counts for more than a short one.

    Args:
        items: The sums of each item. One without targets has None as its values.

    Raises:
        ValueError: No item has a target.
    """
    total = sum(items, LossSum())
    names = ("loss", "perplexity", "token_accuracy")
    per_item: dict[str, list[float | None]] = {
        name: [getattr(item, name) if item.num_targets else None for item in items]
        for name in names
    }
    return MetricResult({name: getattr(total, name) for name in names}, per_item)


def perplexity(loss: float) -> float:
    """Return exp(loss); lower is better.

    Perplexities compare only over the same tokenizer and the same targets.

    Args:
        loss: Mean negative log-likelihood, in nats.
    """
    try:
        return math.exp(loss)
    except OverflowError:
        return math.inf
