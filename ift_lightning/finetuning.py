"""One fine-tuning run, from a typed config to a run folder with a verified adapter."""

from __future__ import annotations

import os
import sys
import tempfile
from contextlib import ExitStack, redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import torch
from hydra.core.hydra_config import HydraConfig
from lightning.pytorch.loggers import Logger

from ift_lightning import assembly, budgets
from ift_lightning.config.checks import check_hardware
from ift_lightning.config.schema import ReloadCheck, TrainConfig
from ift_lightning.data.batching import PlannedMicroBatch, StepPlanner
from ift_lightning.data.datamodule import InstructionDataModule, collate
from ift_lightning.data.mask_audit import audit_masks, render_sample
from ift_lightning.data.token_cache import TokenizedData
from ift_lightning.errors import StoppedBySignal, UserError
from ift_lightning.modeling.adapters import count_parameters
from ift_lightning.modeling.loading import (
    load_base_model,
    tokenizer_fingerprint,
    weights_fingerprint,
)
from ift_lightning.modeling.optimization import build_optimizer, build_scheduler
from ift_lightning.training.callbacks.recording import (
    closing_loggers,
    log_hyperparameters,
    log_samples,
)
from ift_lightning.training.callbacks.stopping import StopRequests, requeue, was_requeued
from ift_lightning.training.failure_reports import remove_reports
from ift_lightning.training.module import InstructionTuningModule
from ift_lightning.training.ranks import (
    Ranks,
    barrier,
    from_main_rank,
    patient_barrier,
    start_process_group,
    stop_process_group,
    wait_for_main_rank,
)
from ift_lightning.training.reload_check import reload_difference
from ift_lightning.training.run import RunSettings, TrainingRun
from ift_lightning.training.run_record import RunRecorder, describe_environment, read_run_record
from ift_lightning.training_evaluation import BEFORE_FILE, TrainingEvaluation
from ift_lightning.types import RunRecord

_SMALL_MODEL = 1_000_000_000
"""Parameters below which a second copy of the base model is loaded to check the adapter."""


def train(config: TrainConfig) -> float | None:
    """Train, test and save, leaving a run folder behind.

    Returns:
        ``val/loss`` of the exported weights; None without validation rows.

    Raises:
        UserError: Something that was given cannot be used; the run record says so, too.
    """
    overrides = list(HydraConfig.get().overrides.task) if HydraConfig.initialized() else []
    return train_rank(config, Ranks(), overrides)


def train_rank(
    config: TrainConfig, ranks: Ranks, overrides: list[str], *, shares_folder: bool = True
) -> float | None:
    """Take part in a run as one of its processes; see :func:`train`.

    Args:
        config: The run's config, the same for all ranks but for ``run_dir``.
        ranks: This process among them.
        overrides: The command line.
        shares_folder: Whether ``run_dir`` is the same on all ranks; otherwise rank 0's is taken.
    """
    with ExitStack() as stack:
        if not ranks.is_main:
            # Only one rank speaks; errors still come through.
            stack.enter_context(redirect_stdout(stack.enter_context(Path(os.devnull).open("w"))))
        requests = stack.enter_context(StopRequests())
        if config.strategy.name != "single":
            on_gpu = assembly.runs_on_gpu(config)
            machine = assembly.look_at_machine()
            check_hardware(config, machine, devices=ranks.local_world_size)
            start_process_group(
                ranks, on_gpu=on_gpu, timeout_minutes=config.strategy.timeout_minutes
            )
            if not shares_folder:
                config.run_dir = from_main_rank(config.run_dir)
            if ranks.is_main:
                remove_reports(Path(config.run_dir) / "ranks")
            barrier()
        try:
            return FineTuning(config, ranks, overrides, requests).run()
        except StoppedBySignal as stopped:
            requests.leave()
            if ranks.is_main:
                requeue(stopped.signal_number, os.environ)
            wait_for_main_rank()
            raise


class FineTuning:
    """The steps of one run, and what they hand to each other.

    Args:
        config: A config that :func:`check_config` has let through.
        ranks: This process among those of the run.
        overrides: The command line.
        requests: Signals that ask to stop.
    """

    tokenizer: Any
    tokenizer_key: str
    data: TokenizedData
    answers: TrainingEvaluation

    def __init__(
        self, config: TrainConfig, ranks: Ranks, overrides: list[str], requests: StopRequests
    ) -> None:
        self.config = config
        self.ranks = ranks
        self.requests = requests
        self.folder = Path(config.run_dir)
        self.record = RunRecord(
            name=config.name,
            seed=config.seed,
            overrides=overrides,
            config_fingerprint=assembly.config_fingerprint(config),
            resume_fingerprint=assembly.resume_fingerprint(config),
            evaluation_fingerprint=assembly.evaluation_fingerprint(config),
            sandbox_fingerprint=assembly.sandbox_fingerprint(config),
        )
        self.recorder = RunRecorder(self.folder, self.record, enabled=ranks.is_main)
        self.loggers: list[Logger] = []

    def run(self) -> float | None:
        """Go through all steps; see :func:`train`."""
        config, record = self.config, self.record
        if was_requeued() and self._has_checkpoint():
            config.resume = True
        if config.resume:
            self._take_over_record()
            barrier()  # before the record is written anew
        with self.recorder.running(), closing_loggers(self.loggers):
            if config.trainer.num_threads is not None:
                torch.set_num_threads(config.trainer.num_threads)
            record.environment = describe_environment()
            machine = assembly.look_at_machine()
            check_hardware(config, machine, devices=self.ranks.local_world_size)
            self._seed()
            self.tokenizer = assembly.build_tokenizer(config)
            self.tokenizer_key = tokenizer_fingerprint(self.tokenizer)  # its use may change it
            self.data = self._prepare_data()
            self._audit_masks()
            run = self._build_run()
            self.answers = TrainingEvaluation(
                config, self.tokenizer, self.data.splits["test"], self.recorder
            )
            if config.measure_before:
                self.answers.before(run.module.model)
                patient_barrier("measured before")
            if config.measure_before and "before/test/loss" not in record.metrics:
                run.measure_before()
                # Data loaders draw from the generator, and training is not to depend on whether
                # anything was measured before.
                self._seed()
            run.fit(resume=config.resume)
            budgets.record_spent(record)
            record.performance["exported_step"] = run.keep_best_weights()
            run.test()
            self._put_together(run)
            # What follows is rank 0's alone: nobody waits for anybody from here on.
            stop_process_group()
            if not self.ranks.is_main:
                return None
            run.save(self.tokenizer, config.model.path)
            self._check_outcome(run)
            self.answers.after(run.module.model, run.export_folder)
            record.performance["eval_seconds"] = round(
                record.performance.get("eval_seconds", 0.0) + self.answers.seconds, 3
            )
            self._finish_loggers(run)
        self._say_what_next(run)
        return record.metrics.get("val/loss")

    def _seed(self) -> None:
        L.seed_everything(self.config.seed, workers=True, verbose=False)

    def _has_checkpoint(self) -> bool:
        return (self.folder / "checkpoints" / "last.ckpt").is_file()

    def _prepare_data(self) -> TokenizedData:
        """Prepare the rows on rank 0 first, then on one rank a machine, then find them made."""
        order = 0 if self.ranks.is_main else 1 if self.ranks.local_rank == 0 else 2
        data: TokenizedData | None = None
        for turn in range(3 if self.ranks.world_size > 1 else 1):
            if turn == order:
                rejected = self.folder / "rejected.jsonl"
                with tempfile.TemporaryDirectory() as elsewhere:
                    path = rejected if self.ranks.is_main else Path(elsewhere) / rejected.name
                    data = assembly.prepare_data(self.config, self.tokenizer, path)
            patient_barrier(f"data {turn}")
        assert data is not None
        return data

    def _put_together(self, run: TrainingRun) -> None:
        """Give rank 0 the whole model, where each rank has had a part of it."""
        if not run.is_sharded:
            return
        trained = run.gather()
        if trained is not None:
            whole = assembly.build_model(self.config, self.tokenizer, run.settings.num_steps)
            run.replace_model(whole, trained)

    def _take_over_record(self) -> None:
        """Keep what an earlier part of this run measured; refuse to go on with other settings."""
        if not (self.folder / "run.json").is_file():
            return  # the missing checkpoint gets a message of its own
        if not self._has_checkpoint():
            print("resume=true: stopped before its first checkpoint, the run starts anew")
            self.config.resume = False
            return
        earlier = read_run_record(self.folder)
        known = earlier.get("resume_fingerprint")
        if known is not None and known != self.record.resume_fingerprint:
            raise UserError(
                f"resume=true: {self.folder} was started with other settings "
                f"({' '.join(earlier['overrides']) or 'the defaults'}). Repeat them; only the "
                "run's length and what it shows may change"
            )
        self.record.started_at = earlier["started_at"]
        self.record.metrics = earlier["metrics"]
        # What the checkpoint was trained on stays on record until the rows are prepared again.
        self.record.data, self.record.model = earlier["data"], earlier["model"]
        sandbox = earlier.get("sandbox_fingerprint") or self.record.sandbox_fingerprint
        if (
            earlier.get("evaluation_fingerprint") != self.record.evaluation_fingerprint
            or sandbox != self.record.sandbox_fingerprint
        ):
            self._drop_scores()

    def _drop_scores(self) -> None:
        """Forget scores and answers of another evaluation, which this one may not make anew."""
        prefixes = ("test/", "before/test/")
        metrics = self.record.metrics
        self.record.metrics = {k: v for k, v in metrics.items() if not k.startswith(prefixes)}
        if self.ranks.is_main:
            for name in ("predictions.jsonl", BEFORE_FILE):
                (self.folder / name).unlink(missing_ok=True)

    def _audit_masks(self) -> None:
        """Record what is supervised, show a sample, and stop where nothing is."""
        config, data = self.config, self.data
        statistics = {name: split.statistics for name, split in data.splits.items()}
        train = statistics["train"]
        fingerprints = {name: item.fingerprint for name, item in statistics.items()}
        earlier = self.record.data.get("fingerprints") or fingerprints
        if earlier["test"] != fingerprints["test"]:
            self._drop_scores()
        self.record.data = {
            "name": config.data.name,
            "variant": config.data_variant.name,
            "variant_counts": data.variant_counts,
            "cot_level": config.cot_level.name,
            "template": config.template.name,
            "fingerprint": train.fingerprint,
            "fingerprints": fingerprints,
            "tokenizer_fingerprint": self.tokenizer_key,
            "ids_fingerprint": {name: item.ids_fingerprint for name, item in statistics.items()},
            "num_train": train.num_rows,
            "num_val": statistics["val"].num_rows,
            "num_test": statistics["test"].num_rows,
            "num_rejected": data.num_rejected,
            "num_truncated": sum(item.num_truncated for item in statistics.values()),
            "num_tokens": train.num_tokens,
            "num_target_tokens": train.num_target_tokens,
            "num_target_tokens_by_role": train.num_target_tokens_by_role,
            "num_target_tokens_by_level": data.num_target_tokens_by_level,
            "require_levels": list(config.data.require_levels),
            "max_seq_length": config.data.max_seq_length,
            "from_cache": data.from_cache,
        }
        audit = audit_masks(data.splits, min_supervised_share=config.audit.min_supervised_share)
        self.record.audit["mask"] = audit
        self.recorder.write()
        shown = audit["train"]
        print(
            f"data: {train.num_rows} training rows, {statistics['val'].num_rows} for validation, "
            f"{statistics['test'].num_rows} for the test; {data.num_rejected} rejected\n"
            f"mask: {shown['supervised_share']:.1%} of the training tokens are supervised; "
            f"{shown['end_supervised_share']:.1%} of the rows teach the model to stop"
        )
        for sample in self._samples(1, color=sys.stdout.isatty()):
            print(f"a training row, what is supervised marked:\n{sample}\n")

    def _samples(self, at_most: int, *, color: bool) -> list[str]:
        """Render the first training rows with their mask."""
        split = self.data.splits["train"]
        count = min(at_most, self.config.logger.num_samples, len(split))
        rows = split.rows(range(count)) if count else []
        return [render_sample(row, self.tokenizer, color=color) for row in rows]

    def _build_run(self) -> TrainingRun:
        """Load the model, attach the adapter, and set up trainer and loggers."""
        config = self.config
        trainer = config.trainer
        planner = assembly.build_planner(config, self.data)
        steps_per_epoch = planner.steps_per_epoch
        num_steps = budgets.number_of_steps(config, planner)
        self._choose_size(planner, num_steps)
        datamodule = InstructionDataModule(
            self.data.splits,
            pad_token_id=self.tokenizer.pad_token_id,
            num_steps=num_steps,
            global_batch_size=trainer.global_batch_size,
            micro_batch_size=trainer.micro_batch_size,
            eval_batch_size=trainer.eval_batch_size,
            seed=config.seed,
            shuffle_window=config.data.shuffle_window,
            num_workers=config.data.num_workers,
            max_target_tokens=assembly.max_target_tokens(config, self.data),
        )
        if self.ranks.is_main:
            self.loggers += assembly.build_loggers(config.logger)
        run = TrainingRun(
            self._build_module(num_steps),
            datamodule,
            self._run_settings(num_steps, steps_per_epoch, datamodule),
            folder=self.folder,
            loggers=self.loggers,
            recorder=self.recorder,
            requests=self.requests,
        )
        log_samples(run.trainer.loggers, self._samples(config.logger.num_samples, color=False))
        return run

    def _choose_size(self, planner: StepPlanner, num_steps: int) -> None:
        """Give the method the size that the budget asks for, and record the budget."""
        self.config, sized = budgets.with_budgeted_size(self.config, self.tokenizer, num_steps)
        self.record.data["budget"] = budgets.describe_budget(
            self.config, self.data, planner, num_steps, sized
        )
        if sized is not None:
            print(f"size: {budgets.describe_size(sized, self.config.peft.name)}")

    def _build_module(self, num_steps: int) -> InstructionTuningModule:
        config = self.config
        model = assembly.build_model(config, self.tokenizer, num_steps)
        total, trainable = count_parameters(model)
        self.record.model = {
            "name": config.model.name,
            "family": model.config.model_type,
            "path": config.model.path,
            "revision": config.model.revision,
            "num_parameters": total,
            "num_trainable_parameters": trainable,
            "weights_fingerprint": weights_fingerprint(
                config.model.path, config.model.revision, Path(config.data.cache_dir).expanduser()
            )
            if self.ranks.is_main  # tens of gigabytes need not be read by all
            else None,
        }
        self.recorder.write()
        seconds = config.budget.max_seconds
        length = f"{num_steps} steps" if seconds is None else f"{seconds:g} s, in steps"
        print(
            f"model: {config.model.name}, {total:,} parameters, {trainable:,} of them trained "
            f"({trainable / total:.3%}) by {config.peft.name}\n"
            f"training: {length} of {config.trainer.global_batch_size} rows"
        )
        return InstructionTuningModule(
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

    def _run_settings(
        self, num_steps: int, steps_per_epoch: int, datamodule: InstructionDataModule
    ) -> RunSettings:
        config = self.config
        trainer = config.trainer
        val_every = min(trainer.val_every_n_steps or steps_per_epoch, num_steps)
        stopping = config.callbacks.early_stopping
        return RunSettings(
            num_steps=num_steps,
            steps_per_epoch=steps_per_epoch,
            micro_batches_per_step=datamodule.planner(self.ranks.world_size).micro_batches_per_step,
            max_seconds=config.budget.max_seconds,
            precision=config.precision.trainer,
            accelerator=trainer.accelerator,
            gradient_clip_norm=trainer.gradient_clip_norm,
            val_every_n_steps=val_every,
            save_every_n_steps=trainer.save_every_n_steps or val_every,
            log_every_n_steps=trainer.log_every_n_steps,
            early_stopping=(stopping.patience, stopping.min_delta) if stopping else None,
            keep_best=config.callbacks.keep_best,
            deterministic=trainer.deterministic,
            progress_bar=trainer.progress_bar and self.ranks.is_main,
            gradient_steps=config.audit.gradient_steps,
            extra_callbacks=[
                assembly.instantiate(item, f"callbacks.extra.{name}")
                for name, item in config.callbacks.extra.items()
            ],
            strategy=assembly.strategy_settings(config),
            ranks=self.ranks,
        )

    def _check_outcome(self, run: TrainingRun) -> None:
        """See that training changed what it should, and that what was saved is what was trained."""
        config = self.config
        audit = self.record.audit["trainability"]
        check = config.audit.reload_check
        small = self.record.model["num_parameters"] < _SMALL_MODEL
        if check is ReloadCheck.always or (check is ReloadCheck.auto and small):
            split = self.data.splits["train"]
            rows = PlannedMicroBatch(tuple(range(min(2, len(split)))), 1.0)
            difference = reload_difference(
                run.module.model,
                run.export_folder,
                partial(assembly.build_base_model, config, self.tokenizer),
                lambda folder: load_base_model(str(folder), dtype=assembly.weights_dtype(config)),
                collate(split, rows, self.tokenizer.pad_token_id),
            )
            audit["reload_max_difference"] = difference
            if not difference <= config.audit.reload_tolerance:
                audit["problems"].append(
                    f"the saved weights give other logits once reloaded (off by {difference:.2g})"
                )
                audit["passed"] = False
        self.recorder.write()
        if not audit["passed"]:
            message = f"trainability audit: {'; '.join(audit['problems'])} (details in run.json)"
            if config.audit.strict:
                raise UserError(f"{message}. audit.strict=false keeps the run all the same")
            print(f"warning: {message}")

    def _finish_loggers(self, run: TrainingRun) -> None:
        parameters = assembly.flat_hyperparameters(self.config)
        parameters["num_trainable_parameters"] = self.record.model["num_trainable_parameters"]
        log_hyperparameters(run.trainer.loggers, parameters, self.record.metrics)

    def _say_what_next(self, run: TrainingRun) -> None:
        metrics, performance = self.record.metrics, self.record.performance
        report = self.answers.report()
        if report:
            print(f"\n{report}")
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
