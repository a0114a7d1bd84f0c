"""Loss, perplexity and token accuracy, from sums that can be added up."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(slots=True)
class LossSum:
    """What adds up over tokens, rows, batches and ranks.

    Args:
        weighted_nll: Sum of weight times negative log-likelihood, in nats.
        weight: Sum of the weights.
        num_correct: Targets that were the likeliest token.
        num_targets: Tokens with a weight above 0.
    """

    weighted_nll: float = 0.0
    weight: float = 0.0
    num_correct: int = 0
    num_targets: int = 0

    def __add__(self, other: LossSum) -> LossSum:
        return LossSum(
            self.weighted_nll + other.weighted_nll,
            self.weight + other.weight,
            self.num_correct + other.num_correct,
            self.num_targets + other.num_targets,
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
