"""Attaches a PEFT method to a base model, saves it, and loads it again."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from ift_lightning.errors import UserError, suggest
from ift_lightning.modeling.adalora import freeze_rank_counts
from ift_lightning.modeling.notices import (
    progress_bar_for,
    without_harmless_warnings,
)

# PEFT has no table of (IA)^3 targets for these families: keys, values, and the MLP's second
# projection, whose input is what the method scales ("feedforward").
_IA3_TARGETS: Mapping[str, tuple[Sequence[str], Sequence[str]]] = {
    "qwen2": (("k_proj", "v_proj", "down_proj"), ("down_proj",)),
    "qwen3": (("k_proj", "v_proj", "down_proj"), ("down_proj",)),
    "starcoder2": (("k_proj", "v_proj", "c_proj"), ("c_proj",)),
}

PROMPT_LEARNING = frozenset({"PREFIX_TUNING", "P_TUNING", "PROMPT_TUNING"})
"""PEFT types that put virtual tokens before the prompt instead of changing weights."""


def build_peft_config(settings: Mapping[str, Any]) -> Any:
    """Instantiate the PEFT config that ``settings["_target_"]`` names, for causal models.

    Args:
        settings: ``_target_`` and keywords of that class.

    Raises:
        UserError: An unknown class or keyword, or a value that PEFT refuses.
    """
    keywords = dict(settings)
    module_name, _, class_name = str(keywords.pop("_target_", "")).rpartition(".")
    try:
        config_class = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(
            f"peft.config._target_={module_name}.{class_name}: there is no such class ({error})"
        ) from error
    valid = set(inspect.signature(config_class).parameters)
    for key in keywords:
        if key not in valid:
            raise UserError(
                f"peft.config.{key}: {class_name} has no such option. {suggest(key, valid)}"
            )
    keywords.setdefault("task_type", "CAUSAL_LM")
    try:
        return config_class(**keywords)
    except (TypeError, ValueError) as error:
        raise UserError(f"peft.config: {class_name} refuses these values: {error}") from error


def adalora_steps(
    num_steps: int, *, initial_fraction: float, final_fraction: float, num_allocations: int
) -> dict[str, int]:
    """Return AdaLoRA's ``total_step``, ``tinit``, ``tfinal`` and ``deltaT`` for a run's length.

    Args:
        num_steps: Optimizer steps of the run.
        initial_fraction: Share of steps before ranks are taken away.
        final_fraction: Share of steps at the end with the ranks fixed.
        num_allocations: Re-allocations in between.

    Raises:
        UserError: The run is too short for the three phases.
    """
    tinit = round(num_steps * initial_fraction)
    tfinal = round(num_steps * final_fraction)
    if min(initial_fraction, final_fraction) < 0 or num_steps - tinit - tfinal < 1:
        raise UserError(
            f"AdaLoRA: {num_steps} optimizer steps leave none between the initial {tinit} and the "
            f"final {tfinal}; train longer, or lower peft.adalora_schedule's fractions"
        )
    if num_steps - tfinal < 2:
        # PEFT measures importances in the steps before the last allocation, not in its own.
        raise UserError(
            f"AdaLoRA: {num_steps} optimizer steps leave none to measure which ranks matter before "
            f"the last {tfinal} with fixed ranks; train longer, or use peft=lora"
        )
    delta = max(1, (num_steps - tinit - tfinal) // max(1, num_allocations))
    return {"total_step": num_steps, "tinit": tinit, "tfinal": tfinal, "deltaT": delta}


def check_adapter_settings(
    settings: Mapping[str, Any] | None,
    *,
    gradient_checkpointing: bool = False,
    num_new_tokens: int = 0,
) -> Any:
    """Refuse settings that no model can be trained with; needs no model.

    Args:
        settings: See :func:`build_peft_config`; None trains every weight.
        gradient_checkpointing: Whether activations are recomputed.
        num_new_tokens: Tokens added to the vocabulary.

    Returns:
        The PEFT config; None where every weight is trained.

    Raises:
        UserError: What does not go together, why, and what to use instead.
    """
    if settings is None:
        return None
    config = build_peft_config(settings)
    method = str(config.peft_type.value)
    if method == "PREFIX_TUNING" and gradient_checkpointing:
        raise UserError(
            "prefix tuning hands keys and values to the model through its cache, which gradient "
            "checkpointing recomputes without; leave checkpointing off, or use P-tuning or prompt "
            "tuning"
        )
    if method == "ADALORA" and config.init_r <= config.target_r:
        raise UserError(
            f"AdaLoRA starts with peft.config.init_r={config.init_r} ranks a matrix and takes some "
            f"away until peft.config.target_r={config.target_r} are left on average: init_r has to "
            "be the larger one; use peft=lora for a fixed rank"
        )
    if num_new_tokens and method != "LORA":
        raise UserError(
            f"model.add_tokens: {method} does not train embeddings, so the new tokens would "
            "stay random; use peft=lora or peft=full"
        )
    return config


_EMPTY_ROW = 1e-6
"""What a row of zeros is filled with: far below the rounding of the weights beside it."""


@torch.no_grad()
def _fill_empty_rows(model: Any) -> None:
    """Give every row of every linear layer a length: DoRA divides by it, and 0 / 0 is no number.

    A matrix that has empty rows gets storage of its own: other models may share the present one.
    """
    for module in model.modules():
        if not isinstance(module, torch.nn.Linear) or module.weight.is_meta:
            continue
        if module.weight.is_floating_point():
            empty = module.weight.float().norm(dim=1) == 0
            if bool(empty.any()):
                filled = module.weight.detach().clone()
                filled[empty] = _EMPTY_ROW
                module.weight.data = filled  # the parameter stays, and stays tied


def attach_adapter(
    model: Any,
    settings: Mapping[str, Any] | None,
    *,
    gradient_checkpointing: bool = False,
    new_token_ids: Sequence[int] = (),
) -> Any:
    """Return the model with an adapter to train, or with every weight to train.

    Args:
        model: Base model.
        settings: See :func:`build_peft_config`; None trains every weight.
        gradient_checkpointing: Recompute activations in the backward pass instead of keeping them.
        new_token_ids: Tokens added to the vocabulary, whose embeddings have to be learnt.

    Raises:
        UserError: The method does not fit this model.
    """
    from peft import get_peft_model, prepare_model_for_kbit_training

    quantized = bool(getattr(model, "is_quantized", False))
    if settings is None:
        if quantized:
            raise UserError(
                "peft=full cannot train quantized weights; use peft=qlora, or precision=bf16_true"
            )
        if gradient_checkpointing:
            _enable_checkpointing(model)
        model.requires_grad_(True)
        return model
    config = check_adapter_settings(
        settings,
        gradient_checkpointing=gradient_checkpointing,
        num_new_tokens=len(new_token_ids),
    )
    method = str(config.peft_type.value)
    _complete_targets(config, method, str(model.config.model_type))
    _refuse_dora_over_int8_on_cpu(config, model)
    if new_token_ids:
        config.trainable_token_indices = list(new_token_ids)
    if quantized:
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    elif getattr(config, "use_dora", False):
        _fill_empty_rows(model)
    if gradient_checkpointing:
        _enable_checkpointing(model)
    try:
        with without_harmless_warnings():
            adapted = get_peft_model(model, config)
    except ValueError as error:
        raise UserError(
            f"{method} cannot be attached to a {model.config.model_type} model: {error}"
        ) from error
    if method == "ADALORA":
        freeze_rank_counts(adapted)
    return adapted


def _refuse_dora_over_int8_on_cpu(config: Any, model: Any) -> None:
    in_int8 = bool(getattr(model, "is_loaded_in_8bit", False))
    if in_int8 and getattr(config, "use_dora", False) and model.device.type == "cpu":
        # `dequantize_module_weight` puts a weight without its scales in the layer's place.
        raise UserError(
            "PEFT's DoRA loses the scales of int8 weights on a CPU at the first step; use "
            "precision=nf4 or fp32 with peft=dora, or peft=lora with precision=int8"
        )


def _enable_checkpointing(model: Any) -> None:
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    model.enable_input_require_grads()


def _complete_targets(config: Any, method: str, family: str) -> None:
    """Name the target modules of families that PEFT has no table for."""
    from peft.utils import constants

    if method in PROMPT_LEARNING or getattr(config, "target_modules", None) is not None:
        return
    if method == "IA3":
        if family in constants.TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING:
            return
        if family not in _IA3_TARGETS:
            raise UserError(
                f"peft=ia3: targets of '{family}' models are not known; name them with "
                "peft.config.target_modules=[…] peft.config.feedforward_modules=[…]"
            )
        targets, feedforward = _IA3_TARGETS[family]
        config.target_modules, config.feedforward_modules = set(targets), set(feedforward)
    elif family not in constants.TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING:
        config.target_modules = "all-linear"


def peft_type(model: Any) -> str | None:
    """Return the PEFT type of a model's adapter ("LORA", "ADALORA", …); None without adapter."""
    configs = getattr(model, "peft_config", None)
    if not configs or not hasattr(model, "active_adapter"):
        return None
    return str(configs[model.active_adapter].peft_type.value)


def count_parameters(model: Any) -> tuple[int, int]:
    """Return the number of all parameters and of trainable ones; 4-bit weights count unpacked."""
    if hasattr(model, "get_nb_trainable_parameters"):
        trainable, total = model.get_nb_trainable_parameters()
        return int(total), int(trainable)
    total = sum(parameter.numel() for parameter in model.parameters())
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return int(total), int(trainable)


def save_adapter(model: Any, tokenizer: Any, folder: Path, *, base_path: str) -> None:
    """Save an adapter as PEFT's own folder, or a fully tuned model as a Hugging Face folder.

    Args:
        model: Trained model.
        tokenizer: Saved beside it, so that the folder can be used on its own.
        folder: Made if needed.
        base_path: Folder or hub name of the base model, kept in ``adapter_config.json``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    configs = getattr(model, "peft_config", None)
    if configs:
        configs[model.active_adapter].base_model_name_or_path = base_path
    num_bytes = sum(item.nbytes for item in trainable_tensors(model).values())
    with progress_bar_for(num_bytes), without_harmless_warnings():
        model.save_pretrained(str(folder), safe_serialization=True)
    tokenizer.save_pretrained(str(folder))


def load_adapter(base_model: Any, folder: Path) -> Any:
    """Return the base model with a saved adapter, ready for inference.

    Args:
        base_model: As it was when the adapter was trained.
        folder: Folder that :func:`save_adapter` wrote for an adapter.

    Raises:
        UserError: The folder holds no adapter.
    """
    from peft import PeftModel

    if not (folder / "adapter_config.json").is_file():
        raise UserError(f"{folder} holds no adapter (no adapter_config.json)")
    with without_harmless_warnings():
        return PeftModel.from_pretrained(base_model, str(folder), is_trainable=False)


def merge_adapter(model: Any) -> Any:
    """Return the base model with its adapter's change added to the weights.

    Args:
        model: What :func:`load_adapter` returned.

    Raises:
        UserError: The method has no weights of its own to add: it learns virtual tokens.
    """
    method = peft_type(model)
    if method in PROMPT_LEARNING:
        raise UserError(
            f"{method} learns virtual tokens, which cannot be merged into weights; export the "
            "adapter itself with merge=false"
        )
    return model.merge_and_unload()


def trainable_tensors(model: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    """Return the parameters that are trained, by name."""
    return {name: item for name, item in model.named_parameters() if item.requires_grad}
