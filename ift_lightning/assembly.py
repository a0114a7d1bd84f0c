"""Turns a composed config into objects. Entry points share this; nothing below knows configs."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import json
import math
from enum import Enum
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.loggers import Logger

from ift_lightning.config.checks import Machine
from ift_lightning.config.schema import (
    BadRows,
    DataConfig,
    DataSource,
    LoggerConfig,
    Overflow,
    SplitRule,
    TemplateConfig,
    TrainConfig,
    Turns,
)
from ift_lightning.data.batching import StepPlanner
from ift_lightning.data.preparation import DataPreparation, RecordSource
from ift_lightning.data.record_sources import (
    DefectDrillSource,
    DocstringDrillSource,
    DrillSource,
    FileSource,
    HubSource,
)
from ift_lightning.data.splits import HashSplitter, MbppSplitter
from ift_lightning.data.token_cache import TokenCache, TokenizedData
from ift_lightning.data.variants import variant
from ift_lightning.errors import UserError
from ift_lightning.modeling.adapters import (
    adalora_steps,
    attach_adapter,
    check_adapter_settings,
)
from ift_lightning.modeling.loading import (
    check_model_folder,
    load_tokenizer,
    tokenizer_fingerprint,
)
from ift_lightning.modeling.shared_weights import base_model
from ift_lightning.templating.examples import ExampleBuilder
from ift_lightning.templating.template import Template
from ift_lightning.templating.weights import KeyTokens, LossWeights
from ift_lightning.training.sharding import ShardingOptions
from ift_lightning.training.strategies import StrategySettings
from ift_lightning.types import NO_REASONING, json_fingerprint

_GENERATED: dict[DataSource, type[DrillSource]] = {
    DataSource.drills: DrillSource,
    DataSource.defect_drills: DefectDrillSource,
    DataSource.docstring_drills: DocstringDrillSource,
}

EXAMPLE_FORMAT = 2
"""Counted up when the same config gives other tokens or weights, so that no cache outlives it."""


def look_at_machine() -> Machine:
    """Return what this machine can do."""
    has_gpu = torch.cuda.is_available()
    return Machine(
        has_gpu=has_gpu,
        has_flash_attention=importlib.util.find_spec("flash_attn") is not None,
        has_bitsandbytes=importlib.util.find_spec("bitsandbytes") is not None,
        has_wandb=importlib.util.find_spec("wandb") is not None,
        gpu_has_bf16=has_gpu and torch.cuda.is_bf16_supported(),
        num_gpus=torch.cuda.device_count() if has_gpu else 0,
        has_deepspeed=importlib.util.find_spec("deepspeed") is not None,
    )


def runs_on_gpu(config: TrainConfig) -> bool:
    """Whether the model will be on a GPU."""
    return torch.cuda.is_available() and config.trainer.accelerator in ("auto", "gpu", "cuda")


def plain(value: Any) -> Any:
    """Return a config as JSON values."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def config_fingerprint(config: TrainConfig) -> str:
    """Identify what a config trains, leaving out where it writes and what it shows."""
    return json_fingerprint(_what_is_trained(config))


def resume_fingerprint(config: TrainConfig) -> str:
    """Identify what must stay as it is when a run is resumed.

    That is all but its length, and how its steps are spread over processes.
    """
    values = _what_is_trained(config)
    values.pop("strategy")
    for name in (
        "max_steps",
        "val_every_n_steps",
        "save_every_n_steps",
        "micro_batch_size",
        "eval_batch_size",
        "accelerator",
        "devices",
        "num_nodes",
    ):
        values["trainer"].pop(name)
    # With a budget of target tokens they decide which rows the last step has.
    if config.budget.name != "target_tokens":
        values["trainer"].pop("max_epochs")
    values["budget"].pop("max_seconds")
    return json_fingerprint(values)


def evaluation_fingerprint(config: TrainConfig) -> str:
    """Identify how a run's answers are made and scored."""
    names = ("evaluate", "generation", "metrics", "measure_before")
    values = {name: plain(getattr(config, name)) for name in names}
    values["max_new_tokens"] = [config.data.max_new_tokens, config.cot_level.max_new_tokens]
    for name in ("batch_size", "keep_completions"):  # how fast, and what stays in the cache
        if isinstance(values["generation"], dict):
            values["generation"].pop(name, None)
    return json_fingerprint(values)


def sandbox_fingerprint(config: TrainConfig) -> str:
    """Identify what generated programs may use; not how many of them run at a time."""
    values = plain(config.sandbox)
    for name in ("name", "num_workers"):
        values.pop(name)
    return json_fingerprint(values)


def _what_is_trained(config: TrainConfig) -> dict[str, Any]:
    values: dict[str, Any] = plain(config)
    for name in ("run_dir", "resume", "name", "logger", "measure_before"):
        values.pop(name)
    for name in ("evaluate", "generation", "sandbox", "metrics", "sweep"):
        values.pop(name)
    for name in ("cache_dir", "num_workers", "max_new_tokens"):
        values["data"].pop(name)
    values["cot_level"].pop("max_new_tokens")
    for name in ("progress_bar", "log_every_n_steps", "num_threads"):
        values["trainer"].pop(name)
    return values


def build_source(data: DataConfig) -> RecordSource:
    """Return where the rows come from.

    Raises:
        UserError: A path does not exist, or holds no data files.
    """
    own_paths = {
        split: Path(path).expanduser()
        for split, path in (("val", data.val_path), ("test", data.test_path))
        if path
    }
    if data.path:
        path = Path(data.path).expanduser()
        return FileSource(path, own_paths=own_paths, form=data.form, fields=data.fields)
    if own_paths:
        raise UserError("data.val_path and data.test_path go together with data.path")
    if data.source is DataSource.hub:
        assert data.hub is not None
        return HubSource(
            data.hub,
            revision=data.revision,
            config=data.hub_config,
            split=data.hub_split,
            form=data.form,
            fields=data.fields,
        )
    wanted = {"train": data.num_train, "val": data.num_val, "test": data.num_test}
    sizes = {split: size or 0 for split, size in wanted.items()}
    return _GENERATED[data.source](sizes, seed=data.drills_seed)


def build_template(config: TemplateConfig) -> Template:
    """Return the template that ``config`` describes."""
    return Template(**{f.name: getattr(config, f.name) for f in dataclasses.fields(config)})


def build_example_builder(
    config: TrainConfig, tokenizer: Any, level: str | None = None
) -> ExampleBuilder:
    """Return what makes token ids of records, at ``level`` where it is not the config's own."""
    data, loss = config.data, config.loss
    weights = LossWeights(
        plain(loss.role_weights), [KeyTokens(**plain(rule)) for rule in loss.key_tokens]
    )
    level = level or config.cot_level.name
    return ExampleBuilder(
        build_template(config.template),
        tokenizer,
        weights=weights,
        max_seq_length=data.max_seq_length,
        cut_prompt=data.overflow is Overflow.cut_prompt,
        reasoning_level=None if level == NO_REASONING else level,
        last_turn_only=data.train_on is Turns.last,
        allow_special_tokens=data.allow_special_tokens,
    )


def build_preparation(config: TrainConfig) -> DataPreparation:
    """Return what decides which rows there are, and in which split."""
    data = config.data
    val_fraction = 0.0 if data.val_path else data.val_fraction
    test_fraction = 0.0 if data.test_path else data.test_fraction
    splitter = HashSplitter(val_fraction, test_fraction, data.split_seed)
    split_key: list[Any] = [val_fraction, test_fraction, data.split_seed]
    split_of = splitter.split_of
    if data.split_rule is SplitRule.mbpp:
        split_of, split_key = MbppSplitter().split_of, ["mbpp"]
    chosen = variant(config.data_variant.name)
    return DataPreparation(
        variant=chosen,
        variant_name=chosen.key,
        variant_counts=chosen.counts,
        split_of=split_of,
        split_key=split_key,
        limits={"train": data.num_train, "val": data.num_val, "test": data.num_test},
        skip_bad_rows=data.bad_rows is BadRows.skip,
        required_levels=data.require_levels,
    )


def prepare_data(config: TrainConfig, tokenizer: Any, rejected_path: Path) -> TokenizedData:
    """Return the tokenized splits of a config; see :meth:`DataPreparation.run`."""
    data = config.data
    builder = build_example_builder(config, tokenizer)
    level_builders = {
        level: builder
        if level == config.cot_level.name
        else build_example_builder(config, tokenizer, level)
        for level in data.require_levels
    }
    preparation = dataclasses.replace(build_preparation(config), level_builders=level_builders)
    builder_key = [
        EXAMPLE_FORMAT,
        plain(config.template),
        plain(config.loss.role_weights),
        plain(config.loss.key_tokens),
        data.max_seq_length,
        data.overflow.value,
        data.train_on.value,
        data.allow_special_tokens,
        config.cot_level.name,
        tokenizer_fingerprint(tokenizer),
    ]
    return preparation.run(
        build_source(data),
        builder,
        builder_key,
        TokenCache(Path(data.cache_dir).expanduser() / "tokens"),
        rejected_path,
        progress_bar=config.trainer.progress_bar,
    )


def max_target_tokens(config: TrainConfig, data: TokenizedData) -> int | None:
    """Return the run's budget of target tokens; None where steps or epochs say how long it is."""
    budget = config.budget
    if budget.name != "target_tokens":
        return None
    if budget.max_target_tokens is not None:
        return budget.max_target_tokens
    # The rows are the same at every level, and so is this number in every arm of the sweep.
    fewest = min(data.num_target_tokens_by_level.values(), default=0)
    return math.floor(config.trainer.max_epochs * fewest)


def build_planner(config: TrainConfig, data: TokenizedData) -> StepPlanner:
    """Return the plan of all optimizer steps of a run in one process."""
    train = data.splits["train"]
    return StepPlanner(
        train.lengths,
        train.weights,
        global_batch_size=config.trainer.global_batch_size,
        micro_batch_size=config.trainer.micro_batch_size,
        seed=config.seed,
        shuffle_window=config.data.shuffle_window,
        num_targets=train.num_targets,
        max_target_tokens=max_target_tokens(config, data),
    )


def number_of_steps(config: TrainConfig, planner: StepPlanner) -> int:
    """Return how many optimizer steps a run takes."""
    if planner.num_planned_steps is not None:
        return planner.num_planned_steps
    trainer = config.trainer
    return trainer.max_steps or math.ceil(trainer.max_epochs * planner.steps_per_epoch)


def build_tokenizer(config: TrainConfig, *, need_weights: bool = True) -> Any:
    """Check the model's folder, and load its tokenizer."""
    model = config.model
    check_model_folder(model.path, model.tokenizer, need_weights=need_weights)
    return load_tokenizer(
        model.tokenizer or model.path,
        revision=None if model.tokenizer else model.revision,
        trust_remote_code=model.trust_remote_code,
        add_tokens=model.add_tokens,
    )


def weights_dtype(config: TrainConfig) -> torch.dtype:
    """Return the dtype that weights are loaded in; "auto" takes bf16 where hardware has it."""
    name = config.precision.weights
    if name == "auto":
        fast = runs_on_gpu(config) and torch.cuda.is_bf16_supported()
        name = "bfloat16" if fast else "float32"
    dtype = getattr(torch, name, None)
    if not isinstance(dtype, torch.dtype):
        raise UserError(f"precision.weights={name} is no torch dtype; use float32 or bfloat16")
    return dtype


def build_base_model(config: TrainConfig, tokenizer: Any) -> Any:
    """Load the base model at the config's precision and attention."""
    model = config.model
    return base_model(
        model.path,
        trains_base=config.peft.config is None,
        revision=model.revision,
        dtype=weights_dtype(config),
        quantization=config.precision.quantization,
        attention=config.attention.implementation,
        trust_remote_code=model.trust_remote_code,
        device=torch.device("cuda" if runs_on_gpu(config) else "cpu"),
        vocabulary_size=len(tokenizer),
    )


def peft_settings(config: TrainConfig, num_steps: int) -> dict[str, Any] | None:
    """Return the keywords of the PEFT config; AdaLoRA's schedule follows the run's real length."""
    method = config.peft
    if method.config is None:
        return None
    settings = dict(method.config)
    if method.adalora_schedule is not None:
        if "total_step" in settings:
            raise UserError(
                "peft.config.total_step is worked out from the run's real length, which AdaLoRA "
                "needs it to be; leave it out, and set trainer.max_steps or trainer.max_epochs"
            )
        schedule = adalora_steps(num_steps, **plain(method.adalora_schedule))
        settings = {**schedule, **settings}
    return settings


def build_model(config: TrainConfig, tokenizer: Any, num_steps: int) -> Any:
    """Load the base model and attach the adapter."""
    new_ids = tokenizer.convert_tokens_to_ids(list(config.model.add_tokens))
    settings = peft_settings(config, num_steps)
    checkpointing = config.trainer.gradient_checkpointing
    # Loading may take minutes: what cannot work is said before.
    check_adapter_settings(
        settings, gradient_checkpointing=checkpointing, num_new_tokens=len(new_ids)
    )
    return attach_adapter(
        build_base_model(config, tokenizer),
        settings,
        gradient_checkpointing=checkpointing,
        new_token_ids=new_ids,
    )


def instantiate(settings: dict[str, Any], option: str) -> Any:
    """Instantiate a ``_target_`` of another library.

    Args:
        settings: ``_target_`` and keywords.
        option: Name of the option, for messages.

    Raises:
        UserError: The class or one of its needs is missing, or it refuses its keywords.
    """
    keywords = dict(settings)
    target = str(keywords.pop("_target_", ""))
    module_name, _, class_name = target.rpartition(".")
    try:
        return getattr(importlib.import_module(module_name), class_name)(**keywords)
    except ModuleNotFoundError as error:
        raise UserError(f"{option}: {error}. Install what {target} needs") from error
    except (AttributeError, TypeError, ValueError) as error:
        raise UserError(f"{option}: {target} cannot be made: {error}") from error


def strategy_settings(config: TrainConfig) -> StrategySettings:
    """Return how the model is spread over processes."""
    strategy = config.strategy
    param_dtype = strategy.param_dtype
    if param_dtype is None and config.precision.trainer == "bf16-mixed":
        param_dtype = "bfloat16"
    return StrategySettings(
        name=strategy.name,
        sharding=ShardingOptions(
            param_dtype=param_dtype,
            reduce_dtype=strategy.reduce_dtype or ("float32" if param_dtype else None),
            cpu_offload=strategy.cpu_offload,
            reshard_after_forward=strategy.reshard_after_forward,
        ),
        stage=strategy.stage,
        offload_optimizer=strategy.offload_optimizer,
        offload_parameters=strategy.offload_parameters,
        deepspeed_config=plain(strategy.config),
        timeout_minutes=strategy.timeout_minutes,
    )


def build_loggers(config: LoggerConfig) -> list[Logger]:
    """Return the loggers of a run."""
    return [
        instantiate(settings, f"logger.loggers.{name}") for name, settings in config.loggers.items()
    ]


def flat_hyperparameters(config: TrainConfig) -> dict[str, Any]:
    """Return what is worth comparing between runs, flat, for the loggers' tables."""
    return {
        "model": config.model.name,
        "peft": config.peft.name,
        "data": config.data.name,
        "data_variant": config.data_variant.name,
        "cot_level": config.cot_level.name,
        "template": config.template.name,
        "loss": config.loss.name,
        "precision": config.precision.name,
        "attention": config.attention.name,
        "strategy": config.strategy.name,
        "seed": config.seed,
        "optimizer": config.optimizer.name,
        "learning_rate": config.optimizer.lr,
        "weight_decay": config.optimizer.weight_decay,
        "scheduler": config.scheduler.name,
        "max_epochs": config.trainer.max_epochs,
        "max_steps": config.trainer.max_steps or 0,
        "budget": config.budget.name,
        "global_batch_size": config.trainer.global_batch_size,
        "max_seq_length": config.data.max_seq_length,
        "peft_config": json.dumps(plain(config.peft.config), sort_keys=True),
    }
