"""What a generation is asked for, what it gives, and what an engine has to be able to do."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ift_lightning.errors import UserError


class FinishReason(StrEnum):
    """Why a completion ends where it does."""

    STOP = "stop"  # an end token, or a stop string
    LENGTH = "length"  # it was cut off: `max_new_tokens`, or the model's longest sequence


@dataclass(frozen=True, slots=True)
class Prompt:
    """Token ids that a generation starts from, by one code path with training's."""

    id: str
    input_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Completion:
    """What the model wrote behind a prompt, raw: without end token and stop string."""

    id: str
    sample: int  # 0-based
    text: str
    finish_reason: FinishReason
    num_tokens: int


@dataclass(frozen=True, slots=True)
class Decoding:
    """How tokens are chosen and where a completion ends.

    Args:
        max_new_tokens: Tokens that a completion may have.
        do_sample: Draw tokens; otherwise the most likely one is taken.
        num_samples: Completions for each prompt.
        temperature: Divides the logits; above 0.
        top_p: Share of probability that the most likely tokens have to reach together; the rest
            is never drawn (nucleus sampling, https://arxiv.org/abs/1904.09751).
        seed: A sample depends on it, the prompt's id and the sample's number alone.
        stop: Strings that end a completion; they are not part of it.
        end_token_ids: Tokens that end a completion.

    Raises:
        UserError: Values that mean nothing, or several samples that would all be the same.
    """

    max_new_tokens: int
    do_sample: bool = False
    num_samples: int = 1
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int = 0
    stop: tuple[str, ...] = ()
    end_token_ids: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise UserError(f"generation.max_new_tokens={self.max_new_tokens} has to be at least 1")
        if self.num_samples < 1:
            raise UserError(f"generation.num_samples={self.num_samples} has to be at least 1")
        if not self.do_sample and self.num_samples > 1:
            raise UserError(
                f"generation.num_samples={self.num_samples}: without sampling all samples of a "
                "prompt are the same; use generation=sampling, or generation.num_samples=1"
            )
        if self.do_sample and not self.temperature > 0:
            raise UserError(
                f"generation.temperature={self.temperature} has to be above 0; generation=greedy "
                "takes the most likely token"
            )
        if not 0 < self.top_p <= 1:
            raise UserError(f"generation.top_p={self.top_p} has to be above 0 and at most 1")
        if "" in self.stop:
            raise UserError("a stop string is empty, and would end every completion at once")

    def key(self) -> list[Any]:
        """Return a JSON value that differs where completions may differ."""
        chosen: list[Any] = ["greedy"]
        if self.do_sample:
            chosen = ["sampling", self.temperature, self.top_p, self.seed]
        return [self.max_new_tokens, *chosen, list(self.stop), list(self.end_token_ids)]


class Engine(Protocol):
    """Generates completions with one model."""

    name: str

    def generate(self, prompts: Sequence[Prompt], decoding: Decoding) -> Iterator[Completion]:
        """Yield ``decoding.num_samples`` completions of each prompt, in any order.

        Raises:
            UserError: A prompt leaves the model no room for an answer.
        """
        ...


def uniform_draws(decoding: Decoding, prompt_id: str, sample: int) -> npt.NDArray[np.float64]:
    """Return one number in [0, 1) for each token of a sample, float64 [max_new_tokens].

    They follow from the seed, the prompt's id and the sample's number, so that a sample does not
    depend on what it is generated together with, nor on how many there are.
    """
    identity = f"{decoding.seed}\n{sample}\n{prompt_id}".encode("utf-8", "surrogatepass")
    seed = int.from_bytes(hashlib.sha256(identity).digest(), "big")
    return np.random.Generator(np.random.PCG64(seed)).random(decoding.max_new_tokens)


def cut_at_stop(text: str, stop: Iterable[str]) -> str | None:
    """Return the text before the first stop string in it; None where there is none."""
    places = [place for place in (text.find(word) for word in stop) if place >= 0]
    return text[: min(places)] if places else None


def common_prefix_length(rows: Sequence[tuple[int, ...]]) -> int:
    """Return how many leading ids all rows share; each row keeps at least one of its own."""
    if len(rows) < 2:
        return 0
    low, high = min(rows), max(rows)
    limit = min(len(row) for row in rows) - 1
    length = 0
    while length < limit and low[length] == high[length]:
        length += 1
    return length


def end_token_ids(tokenizer: Any, model: Any | None, template_end: str) -> tuple[int, ...]:
    """Return the ids that end a completion.

    Args:
        tokenizer: Supplies EOS, and the id of a template's end where that is a single token.
        model: Its generation config may name further end tokens; None for none.
        template_end: The text that the template teaches as the end, rendered.
    """
    found = {tokenizer.eos_token_id}
    own = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    found |= set(own) if isinstance(own, list | tuple) else {own}
    ids = tokenizer(template_end.strip(), add_special_tokens=False)["input_ids"]
    if template_end.strip() and len(ids) == 1:
        found.add(ids[0])
    return tuple(sorted(int(token) for token in found if token is not None))
