"""Short runs of small models under any strategy, to be compared number by number."""

from __future__ import annotations

import faulthandler
from pathlib import Path
from typing import Any

import torch
from conftest import make_model
from lightning.pytorch.callbacks import Callback
from tiny_training import VOCABULARY_SIZE, make_run
from two_ranks import on_two_ranks

from ift_lightning.modeling.adapters import attach_adapter
from ift_lightning.training.callbacks.progress import is_step_end
from ift_lightning.training.checkpoints import CheckpointTensors, read_header
from ift_lightning.training.ranks import Ranks
from ift_lightning.training.run import TrainingRun
from ift_lightning.training.sharding import ShardingOptions
from ift_lightning.training.strategies import StrategySettings

METHODS: dict[str, dict[str, Any] | None] = {
    "lora": {"_target_": "peft.LoraConfig", "target_modules": "all-linear", "r": 4},
    "dora": {
        "_target_": "peft.LoraConfig",
        "target_modules": "all-linear",
        "r": 4,
        "use_dora": True,
    },
    "full": None,
    "ia3": {"_target_": "peft.IA3Config"},
    "prompt": {"_target_": "peft.PromptTuningConfig", "num_virtual_tokens": 4},
    "ptuning": {
        "_target_": "peft.PromptEncoderConfig",
        "num_virtual_tokens": 4,
        "encoder_hidden_size": 16,
    },
    "prefix": {"_target_": "peft.PrefixTuningConfig", "num_virtual_tokens": 4},
    "adalora": {
        "_target_": "peft.AdaLoraConfig",
        "target_modules": "all-linear",
        "init_r": 6,
        "target_r": 3,
        "total_step": 7,
        "tinit": 1,
        "tfinal": 2,
        "deltaT": 1,
    },
}
# Tensors of 99 numbers, with an intermediate size of 33.
METHODS["lora-odd"] = {**(METHODS["lora"] or {}), "r": 3}
ADAMW = {"_target_": "torch.optim.AdamW"}
SGD = {"_target_": "torch.optim.SGD", "momentum": 0.9}
STRATEGIES = {
    "ddp": StrategySettings("ddp"),
    "fsdp": StrategySettings("fsdp"),
    "zero1": StrategySettings("deepspeed", stage=1),
    "zero2": StrategySettings("deepspeed", stage=2),
    "zero3": StrategySettings("deepspeed", stage=3),
    "fsdp-offload": StrategySettings("fsdp", ShardingOptions(cpu_offload=True)),
    "fsdp-keep": StrategySettings("fsdp", ShardingOptions(reshard_after_forward=False)),
    # As precision=bf16_mixed sets them.
    "fsdp-bf16": StrategySettings(
        "fsdp", ShardingOptions(param_dtype="bfloat16", reduce_dtype="float32")
    ),
    "fsdp-bf16-reduced": StrategySettings("fsdp", ShardingOptions(param_dtype="bfloat16")),
    "zero2-offload": StrategySettings("deepspeed", stage=2, offload_optimizer=True),
    "zero3-offload": StrategySettings(
        "deepspeed", stage=3, offload_optimizer=True, offload_parameters=True
    ),
}

CASE_SECONDS = 60  # a few are enough; ranks that wait for each other would do so for half an hour


class StepLosses(Callback):
    """Notes loss and gradient norm of every optimizer step, over all ranks."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.norms: list[float] = []

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if is_step_end(trainer, batch_idx):
            loss = trainer.strategy.reduce(pl_module.step_loss, reduce_op="sum")
            self.losses.append(float(loss))
            self.norms.append(pl_module.last_gradient_norm())


def build(
    folder: Path,
    *,
    ranks: Ranks | None = None,
    strategy: StrategySettings | None = None,
    method: str = "lora",
    family: str = "llama",
    num_steps: int = 7,
    dropout: float = 0.0,
    checkpointing: bool = False,
    callbacks: tuple[Callback, ...] = (),
    model_options: dict[str, Any] | None = None,
    max_logits_elements: int | None = None,
    **options: Any,
) -> TrainingRun:
    """Return a run on 11 rows of unequal lengths in steps of 4: the last step has 3."""
    torch.manual_seed(0)
    settings = METHODS[method]
    if dropout and settings is not None and "Lora" in settings["_target_"]:
        settings = {**settings, "lora_dropout": dropout}
    model = attach_adapter(
        make_model(family, VOCABULARY_SIZE, **(model_options or {})),
        settings,
        gradient_checkpointing=checkpointing,
    )
    run = make_run(
        model,
        folder,
        num_rows=11,
        num_steps=num_steps,
        **{
            "global_batch_size": 4,
            "micro_batch_size": 1,
            "lr": 1e-2,
            "optimizer": ADAMW,
            "strategy": strategy or StrategySettings(),
            "ranks": ranks or Ranks(),
            "extra_callbacks": callbacks,
            **options,
        },
    )
    if max_logits_elements is not None:
        run.module.head.max_logits_elements = max_logits_elements
    return run


def outcome(run: TrainingRun, losses: StepLosses) -> dict[str, Any]:
    """Return the numbers of a finished run; all ranks take part."""
    state = run.strategy.trained_state(with_optimizer=False)
    return {
        "losses": losses.losses,
        "norms": losses.norms,
        "weights": {name: state.parameter(name) for name in state.names},
        "val/loss": float(run.trainer.callback_metrics["val/loss"]),
        "audit": run.trainability.result,
    }


def finished(run: TrainingRun, losses: StepLosses, *, measure_before: bool) -> dict[str, Any]:
    """Train, where wanted measured before on the validation rows, and return the numbers."""
    if measure_before:
        splits = run.datamodule.splits  # type: ignore[attr-defined]
        splits["test"] = splits["val"]
        run.measure_before()
    run.fit()
    result = outcome(run, losses)
    result["before"] = run.recorder.record.metrics.get("before/test/loss")
    return result


def train_cases(ranks: Ranks, folder: str, cases: list[tuple[str, str, dict[str, Any]]]) -> None:
    """Train each (label, strategy, options) in turn; rank 0 writes each outcome to a file.

    The first case that fails, or takes too long, ends the process.
    """
    for label, strategy, options in cases:
        losses = StepLosses()
        options = dict(options)
        measure_before = options.pop("measure_before", False)
        faulthandler.dump_traceback_later(CASE_SECONDS, exit=True)
        run = build(
            Path(folder) / label,
            ranks=ranks,
            strategy=STRATEGIES[strategy],
            callbacks=(losses,),
            **options,
        )
        result = finished(run, losses, measure_before=measure_before)
        faulthandler.cancel_dump_traceback_later()
        if ranks.is_main:
            torch.save(result, Path(folder) / f"{label}.pt")


def train_on_two_ranks(
    folder: Path, cases: list[tuple[str, str, dict[str, Any]]]
) -> dict[str, Any]:
    """Return the outcome, or the error, of each (label, strategy, options).

    Cases share two processes for as long as they succeed. Those behind one that fails get two new
    ones: what a failure leaves of a process group is of no use.
    """
    results: dict[str, Any] = {}
    while cases:
        error: Exception | None = None
        try:
            on_two_ranks(
                "strategy_runs:train_cases", {"folder": str(folder), "cases": cases}, folder
            )
        except Exception as raised:
            error = raised
        while cases:
            label = cases[0][0]
            path = folder / f"{label}.pt"
            cases = cases[1:]
            if not path.is_file():
                results[label] = {"error": f"{type(error).__name__}: {error}"}
                break
            results[label] = torch.load(path, weights_only=False)
    return results


def train_alone(folder: Path, *, measure_before: bool = False, **options: Any) -> dict[str, Any]:
    """Train in one process."""
    losses = StepLosses()
    run = build(folder, callbacks=(losses,), **options)
    return finished(run, losses, measure_before=measure_before)


def restore_finished(ranks: Ranks, folder: str, strategy: str, **options: Any) -> dict[str, Any]:
    """Train, restore the end in a new run, and return weights and moments of both checkpoints."""
    content = {}
    for name in ("written", "restored"):
        faulthandler.dump_traceback_later(CASE_SECONDS, exit=True)
        run = build(Path(folder), ranks=ranks, strategy=STRATEGIES[strategy], **options)
        run.fit(resume=name == "restored")
        header = read_header(run.last_checkpoint)
        tensors = CheckpointTensors(run.last_checkpoint, header)
        content[name] = {
            "parameters": {key: value.clone() for key, value in tensors.parameters.items()},
            "moments": {
                name: {key: torch.as_tensor(value).clone() for key, value in state.items()}
                for name, state in tensors.moments.items()
            },
        }
    faulthandler.cancel_dump_traceback_later()
    return content
