"""Pretraining of the bundled base model, from a typed config to a Hugging Face folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
import torch
from hydra.core.hydra_config import HydraConfig
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from ift_lightning import assembly
from ift_lightning.config.pretrain_checks import last_checkpoint
from ift_lightning.config.pretrain_schema import PretrainConfig
from ift_lightning.data.drills import DRILLS_VERSION
from ift_lightning.data.pretraining.blocks import PretrainingBatches, PretrainingDataModule
from ift_lightning.data.pretraining.tokenizer import train_tokenizer
from ift_lightning.errors import UserError
from ift_lightning.modeling.copying import initialize_copying
from ift_lightning.modeling.loading import weights_fingerprint
from ift_lightning.training.callbacks.checkpointing import SaveLast
from ift_lightning.training.callbacks.progress import TrainingProgressBar, ValidateAtEnd
from ift_lightning.training.notices import quiet_lightning
from ift_lightning.training.pretraining_module import PretrainingModule, PretrainingOptimization
from ift_lightning.training.run_record import RunRecorder, describe_environment, read_run_record
from ift_lightning.types import RunRecord, json_fingerprint

_VAL_SEED = 1_000_003
"""Added to the seed for the batches that the loss is measured on."""


def pretrain(config: PretrainConfig) -> float:
    """Train tokenizer and model, and write them to ``model/`` in the run's folder.

    Args:
        config: A config that ``check_pretrain_config`` has let through.

    Returns:
        ``val/loss`` in nats, on texts that were not trained on.

    Raises:
        UserError: The run to resume was started with other settings.
    """
    folder = Path(config.run_dir)
    fingerprint = json_fingerprint(_what_is_trained(config))
    record = RunRecord(
        name=config.name,
        seed=config.seed,
        overrides=list(HydraConfig.get().overrides.task) if HydraConfig.initialized() else [],
        config_fingerprint=fingerprint,
        resume_fingerprint=fingerprint,
    )
    if config.resume:
        _take_over(record, folder)
    recorder = RunRecorder(folder, record)
    with recorder.running():
        if config.num_threads is not None:
            torch.set_num_threads(config.num_threads)
        record.environment = describe_environment()
        L.seed_everything(config.seed, verbose=False)
        tokenizer = _tokenizer(config, folder)
        model = _model(config, tokenizer)
        record.model = {
            "name": config.name,
            "family": model.config.model_type,
            "num_parameters": model.num_parameters(),
            "num_trainable_parameters": model.num_parameters(only_trainable=True),
        }
        record.data = {
            "name": f"{DRILLS_VERSION}-pretraining",
            "num_tokens": config.num_steps * config.text.rows_per_batch * config.text.block_length,
            "max_seq_length": config.text.block_length,
        }
        print(
            f"model: {model.num_parameters():,} parameters, {len(tokenizer):,} tokens in the "
            f"vocabulary\ntraining: {config.num_steps} steps, {record.data['num_tokens']:,} tokens"
        )
        trainer, module = _fit(config, folder, tokenizer, model)
        record.metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        output = folder / "model"
        module.model.to(torch.bfloat16).save_pretrained(output)
        record.model["weights_fingerprint"] = weights_fingerprint(
            str(output), None, folder / "checkpoints"
        )
        record.performance = {"num_steps": config.num_steps}
    print(
        f"\nval/loss {record.metrics['val/loss']:.4f}\nbase model: {output}\n"
        f"tune it:    python -m ift_lightning.train model=local model.path={output}"
    )
    return record.metrics["val/loss"]


def _what_is_trained(config: PretrainConfig) -> dict[str, Any]:
    values: dict[str, Any] = assembly.plain(config)
    for name in ("name", "resume", "run_dir", "logger", "progress_bar", "num_threads"):
        values.pop(name)
    return values


def _take_over(record: RunRecord, folder: Path) -> None:
    earlier = read_run_record(folder)
    if earlier.get("resume_fingerprint") != record.resume_fingerprint:
        raise UserError(
            f"resume=true: {folder} was started with other settings "
            f"({' '.join(earlier['overrides']) or 'the defaults'}). Repeat them"
        )
    record.started_at = earlier["started_at"]


def _tokenizer(config: PretrainConfig, folder: Path) -> Any:
    """Train the tokenizer, or take the one that an interrupted run has trained."""
    output = folder / "model"
    if config.resume and (output / "tokenizer.json").is_file():
        return AutoTokenizer.from_pretrained(output)
    tokenizer = train_tokenizer(
        config.vocabulary.size,
        num_texts=config.vocabulary.num_texts,
        seed=config.vocabulary.seed,
        max_positions=config.architecture.max_positions,
    )
    tokenizer.save_pretrained(output)
    return tokenizer


def _model(config: PretrainConfig, tokenizer: Any) -> LlamaForCausalLM:
    shape = config.architecture
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=shape.hidden_size,
            intermediate_size=shape.intermediate_size,
            num_hidden_layers=shape.num_layers,
            num_attention_heads=shape.num_heads,
            num_key_value_heads=shape.num_heads,
            attention_bias=True,
            max_position_embeddings=shape.max_positions,
            rope_parameters={"rope_type": "default", "rope_theta": shape.rope_theta},
            tie_word_embeddings=True,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    if shape.copying_start:
        initialize_copying(model, seed=config.seed)
    return model


def _fit(
    config: PretrainConfig, folder: Path, tokenizer: Any, model: LlamaForCausalLM
) -> tuple[L.Trainer, PretrainingModule]:
    quiet_lightning()
    text, last = config.text, last_checkpoint(config)

    def batches(num_batches: int, seed: int, curriculum: float) -> PretrainingBatches:
        return PretrainingBatches(
            tokenizer,
            rows_per_batch=text.rows_per_batch,
            block_length=text.block_length,
            num_batches=num_batches,
            seed=seed,
            library_share=text.library_share,
            curriculum=curriculum,
        )

    val = batches(text.num_val_batches, config.seed + _VAL_SEED, 0.0)
    datamodule = PretrainingDataModule(
        batches(config.num_steps, config.seed, text.curriculum),
        [val[index] for index in range(len(val))],
        text.num_workers,
    )
    optimization = PretrainingOptimization(config.num_steps, **assembly.plain(config.optimization))
    module = PretrainingModule(model, optimization, log_every_n_steps=config.log_every_n_steps)
    val_every = min(config.val_every_n_steps, config.num_steps)
    bar = [TrainingProgressBar()] if config.progress_bar else []
    trainer = L.Trainer(
        accelerator=config.accelerator,
        devices=1,
        precision=config.precision,  # type: ignore[arg-type]
        max_steps=config.num_steps,
        max_epochs=-1,
        val_check_interval=val_every,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        logger=assembly.build_loggers(config.logger),
        callbacks=[*bar, ValidateAtEnd(), SaveLast(last, config.save_every_n_steps, val_every)],
        log_every_n_steps=config.log_every_n_steps,
        enable_progress_bar=config.progress_bar,
        enable_model_summary=False,
        default_root_dir=folder,
    )
    module.train()
    trainer.fit(
        module,
        datamodule=datamodule,
        ckpt_path=str(last) if config.resume else None,
        weights_only=False,
    )
    if "val/loss" not in trainer.callback_metrics:  # resumed behind its last step
        trainer.validate(module, datamodule=datamodule, verbose=False)
    return trainer, module
