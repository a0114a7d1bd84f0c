"""Train one model: ``python -m ift_lightning.train [overrides]``; ``--multirun`` for a sweep."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ift_lightning.config.checks import check_config, check_hardware
from ift_lightning.config.entry import entry_point
from ift_lightning.config.schema import ReloadCheck, TrainConfig

if TYPE_CHECKING:
    from ift_lightning.data.token_cache import TokenizedData
    from ift_lightning.training.run import TrainingRun
    from ift_lightning.training.run_record import RunRecorder


@entry_point("train", TrainConfig)
def main(config: TrainConfig) -> float | None:
    """Run the training that ``config`` describes; a sweep's objective is the last ``val/loss``."""
    check_config(config)
    # Everything heavy is imported from here on: the config stands.
    return train(config)


def train(config: TrainConfig) -> float | None:
    """Train, test and save, leaving a run folder behind; return ``val/loss``."""
    from pathlib import Path

    import lightning as L
    import torch

    from ift_lightning import assembly
    from ift_lightning.training.run_record import RunRecorder, describe_environment
    from ift_lightning.types import RunRecord

    folder = Path(config.run_dir)
    record = RunRecord(
        name=config.name,
        seed=config.seed,
        overrides=_overrides(),
        config_fingerprint=assembly.config_fingerprint(config),
    )
    recorder = RunRecorder(folder, record)
    with recorder.running():
        if config.trainer.num_threads is not None:
            torch.set_num_threads(config.trainer.num_threads)
        record.environment = describe_environment()
        check_hardware(config, assembly.look_at_machine())
        L.seed_everything(config.seed, workers=True, verbose=False)
        tokenizer = assembly.build_tokenizer(config)
        data = assembly.prepare_data(config, tokenizer, folder / "rejected.jsonl")
        _audit_masks(config, data, tokenizer, recorder)
        run = _build_run(config, data, tokenizer, recorder)
        if config.measure_before:
            run.measure_before()
            # Data loaders draw from the generator; training is not to depend on a measurement.
            L.seed_everything(config.seed, workers=True, verbose=False)
        run.fit(resume=config.resume)
        record.performance["exported_step"] = run.keep_best_weights()
        run.test()
        run.save(tokenizer, config.model.path)
        _check_outcome(config, run, data, tokenizer, recorder)
        _finish_loggers(config, run, recorder)
    _say_what_next(config, run, recorder)
    return record.metrics.get("val/loss")


def _overrides() -> list[str]:
    from hydra.core.hydra_config import HydraConfig

    return list(HydraConfig.get().overrides.task) if HydraConfig.initialized() else []


def _audit_masks(
    config: TrainConfig, data: TokenizedData, tokenizer: Any, recorder: RunRecorder
) -> None:
    """Record what is supervised, show samples, and stop where nothing is."""
    import sys

    from ift_lightning.data.mask_audit import audit_masks, render_sample

    statistics = {name: split.statistics for name, split in data.splits.items()}
    train = statistics["train"]
    recorder.record.data = {
        "name": config.data.name,
        "variant": config.data_variant.name,
        "cot_level": config.cot_level.name,
        "template": config.template.name,
        "fingerprint": train.fingerprint,
        "ids_fingerprint": {name: item.ids_fingerprint for name, item in statistics.items()},
        "num_train": train.num_rows,
        "num_val": statistics["val"].num_rows,
        "num_test": statistics["test"].num_rows,
        "num_rejected": data.num_rejected,
        "num_truncated": sum(item.num_truncated for item in statistics.values()),
        "num_tokens": train.num_tokens,
        "num_target_tokens": train.num_target_tokens,
        "max_seq_length": config.data.max_seq_length,
        "from_cache": data.from_cache,
    }
    audit = audit_masks(data.splits, min_supervised_share=config.audit.min_supervised_share)
    recorder.record.audit["mask"] = audit
    recorder.write()
    shown = audit["train"]
    print(
        f"data: {train.num_rows} training rows, {statistics['val'].num_rows} for validation, "
        f"{statistics['test'].num_rows} for the test; {data.num_rejected} rejected\n"
        f"mask: {shown['supervised_share']:.1%} of the training tokens are supervised; "
        f"{shown['end_supervised_share']:.1%} of the rows teach the model to stop"
    )
    if config.logger.num_samples:
        sample = render_sample(
            data.splits["train"].rows([0])[0], tokenizer, color=sys.stdout.isatty()
        )
        print(f"a training row, what is supervised marked:\n{sample}\n")


def _build_run(
    config: TrainConfig, data: TokenizedData, tokenizer: Any, recorder: RunRecorder
) -> TrainingRun:
    """Load the model, attach the adapter, and set up trainer and loggers."""
    from functools import partial
    from pathlib import Path

    from ift_lightning import assembly
    from ift_lightning.data.datamodule import InstructionDataModule
    from ift_lightning.modeling.adapters import count_parameters
    from ift_lightning.modeling.loading import weights_fingerprint
    from ift_lightning.modeling.optimization import build_optimizer, build_scheduler
    from ift_lightning.training.module import InstructionTuningModule
    from ift_lightning.training.run import RunSettings, TrainingRun

    trainer = config.trainer
    datamodule = InstructionDataModule(
        data.splits,
        pad_token_id=tokenizer.pad_token_id,
        num_steps=0,
        global_batch_size=trainer.global_batch_size,
        micro_batch_size=trainer.micro_batch_size,
        eval_batch_size=trainer.eval_batch_size,
        seed=config.seed,
        shuffle_window=config.data.shuffle_window,
        num_workers=config.data.num_workers,
    )
    planner = datamodule.planner()
    steps_per_epoch = planner.steps_per_epoch
    num_steps = trainer.max_steps or math.ceil(trainer.max_epochs * steps_per_epoch)
    datamodule.num_steps = num_steps
    model = assembly.build_model(config, tokenizer, num_steps)
    total, trainable = count_parameters(model)
    recorder.record.model = {
        "name": config.model.name,
        "family": model.config.model_type,
        "revision": config.model.revision,
        "num_parameters": total,
        "num_trainable_parameters": trainable,
        "weights_fingerprint": weights_fingerprint(
            config.model.path, config.model.revision, Path(config.data.cache_dir).expanduser()
        ),
        "path": config.model.path,
    }
    recorder.write()
    print(
        f"model: {config.model.name}, {total:,} parameters, {trainable:,} of them trained "
        f"({trainable / total:.3%}) by {config.peft.name}\n"
        f"training: {num_steps} steps of {trainer.global_batch_size} rows"
    )
    module = InstructionTuningModule(
        model,
        optimizer=partial(
            build_optimizer,
            settings=config.optimizer.config,
            lr=config.optimizer.lr,
            weight_decay=config.optimizer.weight_decay,
        ),
        scheduler=partial(
            build_scheduler,
            type_name=config.scheduler.type,
            num_steps=num_steps,
            warmup_fraction=config.scheduler.warmup_fraction,
            warmup_steps=config.scheduler.warmup_steps,
            options=config.scheduler.options,
        ),
        max_logits_elements=config.loss.max_logits_elements,
    )
    val_every = min(trainer.val_every_n_steps or steps_per_epoch, num_steps)
    stopping = config.callbacks.early_stopping
    settings = RunSettings(
        num_steps=num_steps,
        steps_per_epoch=steps_per_epoch,
        micro_batches_per_step=planner.micro_batches_per_step,
        precision=config.precision.trainer,
        accelerator=trainer.accelerator,
        gradient_clip_norm=trainer.gradient_clip_norm,
        val_every_n_steps=val_every,
        save_every_n_steps=trainer.save_every_n_steps or val_every,
        log_every_n_steps=trainer.log_every_n_steps,
        early_stopping=(stopping.patience, stopping.min_delta) if stopping else None,
        keep_best=config.callbacks.keep_best,
        deterministic=trainer.deterministic,
        progress_bar=trainer.progress_bar,
        gradient_steps=config.audit.gradient_steps,
        extra_callbacks=[
            assembly.instantiate(item, f"callbacks.extra.{name}")
            for name, item in config.callbacks.extra.items()
        ],
    )
    run = TrainingRun(
        module,
        datamodule,
        settings,
        folder=recorder.path.parent,
        loggers=assembly.build_loggers(config),
        recorder=recorder,
    )
    _log_samples(config, data, tokenizer, run)
    return run


def _log_samples(
    config: TrainConfig, data: TokenizedData, tokenizer: Any, run: TrainingRun
) -> None:
    from ift_lightning.data.mask_audit import render_sample
    from ift_lightning.training.callbacks.recording import log_samples

    count = min(config.logger.num_samples, len(data.splits["train"]))
    rows = data.splits["train"].rows(range(count)) if count else []
    log_samples(run.trainer.loggers, [render_sample(row, tokenizer, color=False) for row in rows])


def _check_outcome(
    config: TrainConfig,
    run: TrainingRun,
    data: TokenizedData,
    tokenizer: Any,
    recorder: RunRecorder,
) -> None:
    """See that training changed what it should, and that the saved adapter is the trained one."""
    from functools import partial

    from ift_lightning import assembly
    from ift_lightning.data.batching import PlannedMicroBatch
    from ift_lightning.data.datamodule import collate
    from ift_lightning.errors import UserError
    from ift_lightning.modeling.loading import load_base_model
    from ift_lightning.training.run import reload_difference

    audit = recorder.record.audit["trainability"]
    check = config.audit.reload_check
    small = recorder.record.model["num_parameters"] < 1_000_000_000
    if check is ReloadCheck.always or (check is ReloadCheck.auto and small):
        rows = tuple(range(min(2, len(data.splits["train"]))))
        difference = reload_difference(
            run.module.model,
            run.export_folder,
            partial(assembly.build_base_model, config, tokenizer),
            lambda folder: load_base_model(str(folder), dtype=assembly.weights_dtype(config)),
            collate(data.splits["train"], PlannedMicroBatch(rows, 1.0), tokenizer.pad_token_id),
        )
        audit["reload_max_difference"] = difference
        if not difference <= config.audit.reload_tolerance:
            audit["problems"].append(
                f"the saved adapter gives other logits once reloaded (off by {difference:.2g})"
            )
            audit["passed"] = False
    recorder.write()
    if not audit["passed"]:
        message = f"trainability audit: {'; '.join(audit['problems'])} (details in run.json)"
        if config.audit.strict:
            raise UserError(f"{message}. audit.strict=false keeps the run all the same")
        print(f"warning: {message}")


def _finish_loggers(config: TrainConfig, run: TrainingRun, recorder: RunRecorder) -> None:
    from ift_lightning.assembly import flat_hyperparameters
    from ift_lightning.training.callbacks.recording import log_hyperparameters

    parameters = flat_hyperparameters(config)
    parameters["num_trainable_parameters"] = recorder.record.model["num_trainable_parameters"]
    log_hyperparameters(run.trainer.loggers, parameters, recorder.record.metrics)


def _say_what_next(config: TrainConfig, run: TrainingRun, recorder: RunRecorder) -> None:
    metrics = recorder.record.metrics
    performance = recorder.record.performance
    if "test/loss" in metrics:
        print(f"\n{'':>22}{'before':>10}{'after':>10}")
        for name in ("test/loss", "test/perplexity", "test/token_accuracy"):
            before = metrics.get(f"before/{name}")
            shown = "" if before is None else f"{before:.4f}"
            print(f"{name:>22}{shown:>10}{metrics[name]:>10.4f}")
    for name in ("train/loss", "val/loss"):
        if name in metrics:
            print(f"{name:>22}{'':>10}{metrics[name]:>10.4f}")
    print(
        f"\n{performance['num_steps']} steps in {performance['train_seconds']:.1f} s "
        f"({performance['target_tokens_per_second']:.0f} supervised tokens a second)\n"
        f"run folder:  {run.folder}\n"
        f"weights:     {run.export_folder}\n"
        f"dashboard:   tensorboard --logdir {run.folder}\n"
        f"merge:       python -m ift_lightning.export run={run.folder} merge=true"
    )


if __name__ == "__main__":
    main()
