"""Finds the size of an adapter that brings it nearest to a number of trainable parameters.

Parameters are counted on the model itself, built without storage, so that every method's own rules
hold: which matrices it adapts, an encoder that does not grow, modules that are trained whole.
"""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import torch
from transformers import AutoModelForCausalLM

from ift_lightning.errors import UserError
from ift_lightning.modeling.adapters import attach_adapter, build_peft_config, count_parameters
from ift_lightning.modeling.loading import load_config

TOLERANCE = 0.1
"""Share of the budget by which a method may miss it without being marked."""


def build_weightless_model(
    path: str,
    *,
    revision: str | None = None,
    trust_remote_code: bool = False,
    vocabulary_size: int | None = None,
) -> Any:
    """Return a base model on the ``meta`` device, where tensors have shapes and no storage.

    Args:
        path: Folder or hub name.
        revision: Commit, tag or branch on the hub.
        trust_remote_code: Run code that the repository brings along.
        vocabulary_size: Tokens that the tokenizer knows. Embeddings grow where there are fewer.

    Raises:
        UserError: There is no configuration to be had.
    """
    config = load_config(path, revision=revision, trust_remote_code=trust_remote_code)
    with torch.device("meta"):
        base = AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code)
        if (
            vocabulary_size is not None
            and vocabulary_size > base.get_input_embeddings().num_embeddings
        ):
            base.resize_token_embeddings(vocabulary_size, mean_resizing=False)
    return base


def attach_weightless(
    base: Any,
    settings: Mapping[str, Any] | None,
    *,
    gradient_checkpointing: bool = False,
    new_token_ids: Sequence[int] = (),
) -> Any:
    """Return a copy of a weightless model with an adapter; see :func:`attach_adapter`."""
    model = copy.deepcopy(base)
    with torch.device("meta"):
        return attach_adapter(
            model,
            settings,
            gradient_checkpointing=gradient_checkpointing,
            new_token_ids=new_token_ids,
        )


@dataclass(frozen=True, slots=True)
class MethodSize:
    """What makes an adapter larger or smaller, as keywords of its PEFT config.

    Args:
        key: Keyword that is solved for: a rank, or the number of virtual tokens.
        scaled: Keywords that keep their ratio to it, such as ``lora_alpha``.
        value: As configured.
        smallest: That the method works with.
    """

    key: str
    scaled: Mapping[str, int | float]
    value: int
    smallest: int = 1

    def keywords(self, size: int) -> dict[str, int | float]:
        """Return the keywords of the PEFT config at ``size``."""
        result: dict[str, int | float] = {self.key: size}
        for key, value in self.scaled.items():
            if key == "target_r":
                # AdaLoRA has to start with more ranks than it ends with.
                result[key] = min(max(1, round(size * value / self.value)), size - 1)
            else:
                scaled = size * value / self.value
                result[key] = int(scaled) if scaled == int(scaled) else scaled
        return result


def method_size(settings: Mapping[str, Any]) -> MethodSize | None:
    """Return what the size of a method is; None where it has none, as (IA)^3.

    Args:
        settings: See :func:`build_peft_config`.
    """
    config = build_peft_config(settings)
    fields = {item.name for item in dataclasses.fields(config)}
    if "num_virtual_tokens" in fields:
        return MethodSize("num_virtual_tokens", {}, config.num_virtual_tokens or 1)
    if "r" not in fields:
        return None
    # Rank-stabilized LoRA (https://arxiv.org/abs/2312.03732) divides by the root of the rank, so
    # that one lora_alpha fits all ranks.
    alpha = next((name for name in ("lora_alpha", "alpha") if name in fields), None)
    scaled: dict[str, int | float] = {}
    if alpha is not None and not getattr(config, "use_rslora", False):
        scaled[alpha] = getattr(config, alpha)
    if "init_r" in fields:
        return MethodSize("init_r", {"target_r": config.target_r, **scaled}, config.init_r, 2)
    return MethodSize("r", scaled, config.r)


@dataclass(frozen=True, slots=True)
class SizedMethod:
    """A method at the size that is nearest to a budget.

    Args:
        settings: Keywords of its PEFT config, the size among them; None trains every weight.
        size: What was solved; empty for a method without a size.
        num_trainable_parameters: That it has so.
        max_trainable_parameters: The budget.
    """

    settings: dict[str, Any] | None
    size: dict[str, int | float]
    num_trainable_parameters: int
    max_trainable_parameters: int

    @property
    def deviation(self) -> float:
        """How far it is from the budget, as a share of it; above 0 where it has more."""
        return self.num_trainable_parameters / self.max_trainable_parameters - 1

    @property
    def is_off(self) -> bool:
        """Whether it misses the budget by more than :data:`TOLERANCE`."""
        return abs(self.deviation) > TOLERANCE


def solve_size(
    base: Any,
    settings: Mapping[str, Any] | None,
    max_trainable_parameters: int,
    *,
    name: str,
    max_virtual_tokens: int | None = None,
    new_token_ids: Sequence[int] = (),
) -> SizedMethod:
    """Return the size of a method whose trainable parameters come nearest to a budget.

    Args:
        base: What :func:`build_weightless_model` returned; it stays as it is.
        settings: See :func:`build_peft_config`; None trains every weight.
        max_trainable_parameters: The budget. The nearest size may have a few more.
        name: Of the method, for messages.
        max_virtual_tokens: That the model's positions leave room for; None for no limit.
        new_token_ids: Tokens added to the vocabulary, whose embeddings are trained, too.

    Raises:
        UserError: The method has no size and misses the budget, or no size of it comes near.
    """
    budget = max_trainable_parameters

    def count(changed: Mapping[str, Any] | None) -> int:
        model = attach_weightless(base, changed, new_token_ids=new_token_ids)
        return count_parameters(model)[1]

    size = None if settings is None else method_size(settings)
    if settings is None or size is None:
        found = SizedMethod(
            None if settings is None else dict(settings), {}, count(settings), budget
        )
        if found.is_off:
            raise UserError(_explain_no_size(name, found.num_trainable_parameters, budget))
        return found
    is_prompt = size.key == "num_virtual_tokens"
    largest = max_virtual_tokens if is_prompt else _largest_rank(base)
    if largest is not None and largest < size.smallest:
        raise UserError(
            f"budget=params: the model's positions leave no room for virtual tokens of peft={name} "
            "beside rows of data.max_seq_length tokens; lower data.max_seq_length"
        )
    known: dict[int, int] = {}

    def count_at(value: int) -> int:
        if value not in known:
            known[value] = count({**settings, **size.keywords(value)})
        return known[value]

    value = _nearest(count_at, budget, size.smallest, largest)
    keywords = size.keywords(value)
    found = SizedMethod({**settings, **keywords}, keywords, count_at(value), budget)
    # Between two sizes, the nearer one is taken, however far it is.
    out_of_reach = size.smallest if found.deviation > 0 else largest
    if found.is_off and value == out_of_reach:
        _refuse_out_of_reach(found, name, size, at_smallest=found.deviation > 0)
    return found


def _nearest(count: Callable[[int], int], wanted: int, smallest: int, largest: int | None) -> int:
    """Return the size whose count is nearest to ``wanted``; the smaller one of two equally near.

    Args:
        count: Does not fall as the size grows. Where it grows evenly, as nearly everywhere, four
            or five counts are enough.
        wanted: Count.
        smallest: First size.
        largest: Last size; None for no limit.
    """
    limit = math.inf if largest is None else largest
    low = smallest
    if count(low) >= wanted or low >= limit:
        return low
    high = low + 1
    while count(high) < wanted and high < limit:
        slope = (count(high) - count(low)) / (high - low)
        further = math.ceil((wanted - count(high)) / slope) if slope > 0 else high
        low, high = high, int(min(high + max(1, further), limit))
    if count(high) < wanted:
        return high
    while high - low > 1:
        share = (wanted - count(low)) / (count(high) - count(low))
        guess = min(max(low + math.floor(share * (high - low)), low + 1), high - 1)
        low, high = (guess, high) if count(guess) < wanted else (low, guess)
    return low if wanted - count(low) <= count(high) - wanted else high


def _largest_rank(base: Any) -> int:
    """Return the rank of the base model's largest matrix, above which a rank adds nothing."""
    return max(min(item.shape) for item in base.parameters() if item.ndim == 2)


def _explain_no_size(name: str, count: int, budget: int) -> str:
    whole = "every weight" if name == "full" else "what it always trains"
    return (
        f"budget=params: peft={name} has no size to choose. It trains {whole}, {count:,} "
        f"parameters of this model, and budget.max_trainable_parameters={budget} asks for "
        f"{budget:,}. Leave peft={name} out of the comparison, or bring the other methods to it "
        f"with budget.max_trainable_parameters={count}"
    )


def _refuse_out_of_reach(
    found: SizedMethod, name: str, size: MethodSize, *, at_smallest: bool
) -> NoReturn:
    which, wanted = ("smallest", "larger") if at_smallest else ("largest", "smaller")
    shown = ", ".join(f"{key}={value}" for key, value in found.size.items())
    is_prompt = size.key == "num_virtual_tokens"
    reason = (
        " More virtual tokens would not fit into the model's positions beside rows of "
        "data.max_seq_length tokens."
        if is_prompt
        else " A larger rank than a matrix has adds nothing to it."
    )
    fewer = "" if is_prompt else "name fewer matrices in peft.config.target_modules, "
    raise UserError(
        f"budget=params: budget.max_trainable_parameters={found.max_trainable_parameters} is out "
        f"of reach of peft={name}: its {which} size, {shown}, trains "
        f"{found.num_trainable_parameters:,} parameters of this model."
        f"{'' if at_smallest else reason} Give a {wanted} budget, {fewer if at_smallest else ''}"
        f"or leave peft={name} out of the comparison"
    )
