"""Attaches a PEFT method to a base model, saves it, and loads it again."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from ift_lightning.errors import UserError, suggest

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
            raise UserError(f"peft.config.{key}: {class_name} has no such option. "
                            f"{suggest(key, valid)}")
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
    if num_steps < 1 or num_steps - tinit - tfinal < 1:
        raise UserError(
            f"AdaLoRA: {num_steps} optimizer steps leave none between the initial {tinit} and the "
            f"final {tfinal}; train longer, or lower peft.adalora_schedule's fractions"
        )
    delta = max(1, (num_steps - tinit - tfinal) // max(1, num_allocations))
    return {"total_step": num_steps, "tinit": tinit, "tfinal": tfinal, "deltaT": delta}


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
    config = build_peft_config(settings)
    method = str(config.peft_type.value)
    _complete_targets(config, method, str(model.config.model_type))
    if new_token_ids:
        if method != "LORA":
            raise UserError(
                f"model.add_tokens: {method} does not train embeddings, so the new tokens would "
                "stay random; use peft=lora or peft=full"
            )
        config.trainable_token_indices = list(new_token_ids)
    if quantized:
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    if gradient_checkpointing:
        _enable_checkpointing(model)
    try:
        return get_peft_model(model, config)
    except ValueError as error:
        raise UserError(f"{method} cannot be attached to a {model.config.model_type} model: "
                        f"{error}") from error


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
    return PeftModel.from_pretrained(base_model, str(folder), is_trainable=False)


def trainable_tensors(model: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    """Return the parameters that are trained, by name."""
    return {name: item for name, item in model.named_parameters() if item.requires_grad}
