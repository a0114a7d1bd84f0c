"""What a training run will cost, worked out without loading a weight.

Parameters, tokens and steps are exact: the model is built on the ``meta`` device, the rows are
tokenized, and the plan of optimizer steps is the one that training follows. Memory and time are
estimates, and say so.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import torch

from ift_lightning import assembly, budgets
from ift_lightning.config.checks import check_hardware
from ift_lightning.config.schema import PlanConfig, TrainConfig
from ift_lightning.data.batching import StepPlanner
from ift_lightning.data.mask_audit import audit_masks
from ift_lightning.data.token_cache import TokenizedData
from ift_lightning.modeling.adapters import count_parameters
from ift_lightning.modeling.sizing import SizedMethod, attach_weightless

# Bytes per weight of a quantized linear layer: 4 bits and an 8-bit scale for each 64 weights
# (the scales of scales add less than a thousandth), and 8 bits.
_QUANTIZED_BYTES = {"nf4": 0.5 + 1 / 64, "int8": 1.0}
_OPTIMIZER_BYTES = {"adamw": 8, "adamw_8bit": 2, "sgd": 4}  # state per trained parameter
# Activations that one decoder layer keeps for the backward pass, in numbers per token and hidden
# unit: section 4.1 of https://arxiv.org/abs/2205.05198 without the attention matrix, which fused
# kernels do not keep.
_ACTIVATIONS_PER_UNIT = 17


def plan(config: PlanConfig) -> dict[str, Any]:
    """Print what a run will cost, and return it.

    Args:
        config: A training config; ``output`` names a JSON file to write.

    Raises:
        UserError: The config cannot work, or its rows or its model's configuration are not there.
    """
    check_hardware(config, assembly.look_at_machine())
    tokenizer = assembly.build_tokenizer(config, need_weights=False)
    rejected_path = Path(config.run_dir) / "rejected.jsonl"
    data = assembly.prepare_data(config, tokenizer, rejected_path)
    mask = audit_masks(data.splits, min_supervised_share=config.audit.min_supervised_share)
    planner = assembly.build_planner(config, data)
    num_steps = budgets.number_of_steps(config, planner)
    config, sized = _with_size(config, tokenizer, num_steps)
    work = _plan_work(config, data, planner, num_steps)
    model = build_meta_model(config, tokenizer, num_steps)
    total, trainable = count_parameters(model)
    result = {
        "model": {
            "name": config.model.name,
            "family": model.config.model_type,
            "num_parameters": total,
            "num_trainable_parameters": trainable,
        },
        "data": mask,
        "budget": budgets.describe_budget(config, data, planner, num_steps, sized),
        "work": work,
        "memory_bytes_estimate": estimate_memory(config, model, work),
        "time_estimate": _estimate_time(config, total, trainable, work),
    }
    _print_plan(config, result)
    if sized is not None:
        print(f"size      {budgets.describe_size(sized, config.peft.name)}")
    if config.output:
        output = Path(config.output).expanduser()
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
        print(f"written to {output}")
    return result


def build_meta_model(config: TrainConfig, tokenizer: Any, num_steps: int) -> Any:
    """Return the model with its adapter on the ``meta`` device, where tensors have no storage."""
    return attach_weightless(
        budgets.weightless_base(config, tokenizer),
        assembly.peft_settings(config, num_steps),
        gradient_checkpointing=config.trainer.gradient_checkpointing,
        new_token_ids=tokenizer.convert_tokens_to_ids(list(config.model.add_tokens)),
    )


def _with_size(
    config: PlanConfig, tokenizer: Any, num_steps: int
) -> tuple[PlanConfig, SizedMethod | None]:
    changed, sized = budgets.with_budgeted_size(config, tokenizer, num_steps)
    assert isinstance(changed, PlanConfig)
    return changed, sized


def _plan_work(
    config: TrainConfig, data: TokenizedData, planner: StepPlanner, num_steps: int
) -> dict[str, Any]:
    """Return steps, tokens and the largest micro-batch of the run, following its real plan.

    Where the clock ends the run, the number of steps is None, and tokens are those of one pass.
    """
    train = data.splits["train"]
    by_clock = num_steps == budgets.MANY_STEPS
    if by_clock:
        num_steps = planner.steps_per_epoch
    # One pass stands for the others: rows are the same, only their order differs.
    counted = min(num_steps, planner.steps_per_epoch)
    tokens = padded = largest = 0
    for step in range(counted):
        for planned in planner.step(step)[0]:
            lengths = train.lengths[list(planned.rows)]
            size = len(lengths) * int(lengths.max())
            largest = max(largest, size)
            padded += size
            tokens += int(lengths.sum())
    scale = num_steps / counted
    return {
        "num_steps": None if by_clock else num_steps,
        "steps_per_epoch": planner.steps_per_epoch,
        "micro_batches_per_step": planner.micro_batches_per_step,
        "num_tokens": round(tokens * scale),
        "num_tokens_with_padding": round(padded * scale),
        "num_target_tokens": planner.num_target_tokens(num_steps),
        "largest_micro_batch_tokens": largest,
    }


def estimate_memory(config: TrainConfig, model: Any, work: dict[str, Any]) -> dict[str, int]:
    """Estimate peak memory of training, in bytes, by what it is used for.

    Args:
        config: The run.
        model: The model on any device; only shapes are looked at.
        work: What ``_plan_work`` returned.
    """
    plain_bytes = assembly.weights_dtype(config).itemsize
    quantized = _QUANTIZED_BYTES.get(config.precision.name)
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    linear = {
        id(module.weight)
        for module in model.modules()
        if isinstance(module, torch.nn.Linear) and module is not head
    }
    frozen = trained = 0.0
    num_trained = 0
    for parameter in model.parameters():
        if parameter.requires_grad:
            num_trained += parameter.numel()
            trained += parameter.numel() * (plain_bytes if config.peft.config is None else 4)
        elif quantized is not None and id(parameter) in linear:
            frozen += parameter.numel() * quantized
        else:
            frozen += parameter.numel() * plain_bytes
    hidden = int(getattr(model.config, "hidden_size", 0))
    layers = int(getattr(model.config, "num_hidden_layers", 0))
    number_bytes = 2 if "bf16" in config.precision.name or "fp16" in config.precision.name else 4
    kept_layers = 1 if config.trainer.gradient_checkpointing else layers
    units = _ACTIVATIONS_PER_UNIT * kept_layers + (0 if kept_layers == layers else layers)
    activations = work["largest_micro_batch_tokens"] * hidden * units * number_bytes
    vocabulary = int(model.config.vocab_size)
    logits = min(work["largest_micro_batch_tokens"] * vocabulary, config.loss.max_logits_elements)
    parts = {
        "frozen_weights": frozen,
        "trained_weights": trained,
        "gradients": trained,
        "optimizer": num_trained * _OPTIMIZER_BYTES.get(config.optimizer.name, 8),
        "activations": activations,
        "logits": 3 * 4 * logits,  # logits, their fp32 copy and its gradient
    }
    rounded = {name: round(size) for name, size in parts.items()}
    return {**rounded, "total": sum(rounded.values())}


def _estimate_time(
    config: TrainConfig, total: int, trainable: int, work: dict[str, Any]
) -> dict[str, float]:
    """Return arithmetic work, this machine's matrix speed, and the time that follows from both.

    A token costs 2 operations per weight forward, 2 back to the activations, and 2 per trained
    weight. Small models on a CPU reach a fraction of the matrix speed; the time is a lower bound.
    """
    operations = work["num_tokens_with_padding"] * (4 * total + 2 * trainable)
    speed = _matrix_speed("cuda" if assembly.runs_on_gpu(config) else "cpu", config)
    return {
        "operations": float(operations),
        "matrix_operations_per_second": speed,
        "seconds_at_least": operations / speed,
    }


def _matrix_speed(device: str, config: TrainConfig) -> float:
    """Measure operations per second of a matrix product, for about a third of a second."""
    low = "bf16" in config.precision.name
    dtype = torch.bfloat16 if low else torch.float32
    size = 4096 if device == "cuda" else 512
    left = torch.randn(size, size, device=device, dtype=dtype)
    left @ left
    count = 0
    started = time.perf_counter()
    while (elapsed := time.perf_counter() - started) < 0.3:
        left @ left
        if device == "cuda":
            torch.cuda.synchronize()
        count += 1
    return count * 2 * size**3 / elapsed


def _print_plan(config: TrainConfig, result: dict[str, Any]) -> None:
    model, work = result["model"], result["work"]
    total, trainable = model["num_parameters"], model["num_trainable_parameters"]
    print(
        f"model     {model['name']} ({model['family']}): {total:,} parameters, {trainable:,} "
        f"trained ({trainable / total:.4%}) by {config.peft.name}"
    )
    train = result["data"]["train"]
    print(
        f"rows      {train['num_rows']:,} to train on, the longest of {train['longest_row']} "
        f"tokens; {train['supervised_share']:.1%} of the tokens are supervised"
    )
    rows = config.trainer.global_batch_size
    steps = (
        f"as many steps of {rows} rows as {config.budget.max_seconds:g} s hold; a pass over the "
        f"rows takes {work['steps_per_epoch']:,}"
        if work["num_steps"] is None
        else f"{work['num_steps']:,} steps of {rows} rows"
    )
    print(
        f"work      {steps}: "
        f"{work['num_tokens']:,} tokens, {work['num_tokens_with_padding']:,} with padding, "
        f"{work['num_target_tokens']:,} supervised"
    )
    memory = result["memory_bytes_estimate"]
    parts = ", ".join(
        f"{name.replace('_', ' ')} {size / 2**30:.2f}"
        for name, size in memory.items()
        if name != "total"
    )
    print(f"memory    about {memory['total'] / 2**30:.2f} GiB ({parts})")
    estimate = result["time_estimate"]
    whole = "a pass takes " if work["num_steps"] is None else ""
    speed = estimate["matrix_operations_per_second"] / 1e9
    print(
        f"time      {whole}at least {estimate['seconds_at_least']:,.0f} s, if this machine did "
        f"nothing but matrix products at {speed:,.0f} Gflop/s"
    )
