"""One training run: fit, choose a checkpoint, test, save the adapter, and prove that it loads."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint

from ift_lightning.errors import UserError
from ift_lightning.modeling.adapters import peft_type, save_adapter, trainable_tensors
from ift_lightning.modeling.loss import SupervisedHead
from ift_lightning.training.callbacks.checkpointing import SaveLast
from ift_lightning.training.callbacks.progress import (
    AdaLoraSteps,
    ProgressMetrics,
    TrainingProgressBar,
    ValidateAtEnd,
)
from ift_lightning.training.callbacks.recording import RunRecordCallback
from ift_lightning.training.callbacks.stopping import StopRequests
from ift_lightning.training.callbacks.time_budget import TimeBudget
from ift_lightning.training.callbacks.trainability import TrainabilityAudit
from ift_lightning.training.checkpoints import CheckpointTensors, read_header
from ift_lightning.training.memory import peak_memory_bytes, reset_peak_memory
from ift_lightning.training.module import InstructionTuningModule
from ift_lightning.training.notices import quiet_lightning
from ift_lightning.training.ranks import Ranks, barrier
from ift_lightning.training.run_record import RunRecorder
from ift_lightning.training.strategies import (
    ShardedDataParallel,
    StartedRanks,
    StrategySettings,
    ZeroRedundancy,
    build_strategy,
    resolve_accelerator,
)
from ift_lightning.training.trained_state import TrainedState


@dataclass
class RunSettings:
    """How a run goes, apart from model and data.

    Args:
        num_steps: Optimizer steps; with ``max_seconds``, more than there will be.
        steps_per_epoch: Optimizer steps in a pass over the training rows.
        micro_batches_per_step: On each rank.
        max_seconds: Seconds of training, after which the run ends; None to go on to the last step.
        precision: Lightning's precision flag.
        accelerator: Lightning's accelerator flag.
        gradient_clip_norm: Global norm that gradients are clipped to; None for no clipping.
        val_every_n_steps: Optimizer steps between validations.
        save_every_n_steps: Optimizer steps between writes of ``last.ckpt``.
        log_every_n_steps: Optimizer steps between log entries.
        early_stopping: Validations without improvement, and the smallest improvement, that end
            the run; None to run to the end.
        keep_best: Test and save the weights of the lowest ``val/loss``, not the last ones.
        deterministic: Refuse operations whose result changes from run to run.
        progress_bar: Show one.
        gradient_steps: See :class:`TrainabilityAudit`.
        strategy: How the model is spread over processes.
        ranks: This process among them.
    """

    num_steps: int
    steps_per_epoch: int
    micro_batches_per_step: int
    max_seconds: float | None = None
    precision: str = "32-true"
    accelerator: str = "auto"
    gradient_clip_norm: float | None = 1.0
    val_every_n_steps: int = 100
    save_every_n_steps: int = 100
    log_every_n_steps: int = 10
    early_stopping: tuple[int, float] | None = None
    keep_best: bool = True
    deterministic: bool = False
    progress_bar: bool = True
    gradient_steps: int = 8
    extra_callbacks: Sequence[Callback] = field(default_factory=tuple)
    strategy: StrategySettings = field(default_factory=StrategySettings)
    ranks: Ranks = field(default_factory=Ranks)


class TrainingRun:
    """Drives Lightning's trainer through one run.

    Args:
        module: What is trained.
        datamodule: What it is trained on.
        settings: How.
        folder: The run's folder.
        loggers: Where curves go.
        recorder: The run's record.
        requests: Signals that ask to stop; None for a run that listens for itself.
    """

    def __init__(
        self,
        module: InstructionTuningModule,
        datamodule: L.LightningDataModule,
        settings: RunSettings,
        *,
        folder: Path,
        loggers: list[Any],
        recorder: RunRecorder,
        requests: StopRequests | None = None,
    ) -> None:
        self.requests = requests or StopRequests()
        self.module = module
        self.datamodule = datamodule
        self.settings = settings
        self.folder = folder
        self.recorder = recorder
        self.progress = ProgressMetrics(settings.log_every_n_steps, settings.steps_per_epoch)
        self.trainability = TrainabilityAudit(settings.gradient_steps)
        self.recording = RunRecordCallback(recorder, self.progress)
        self.has_validation = bool(len(getattr(datamodule, "splits", {}).get("val", ())))
        quiet_lightning()
        self._best: ModelCheckpoint | None = None
        ranks = settings.ranks
        accelerator = resolve_accelerator(settings.accelerator)
        strategy = build_strategy(
            settings.strategy, ranks, accelerator=accelerator, precision=settings.precision
        )
        self.strategy = strategy
        self.trainer = L.Trainer(
            accelerator=accelerator,
            strategy=strategy,
            devices=ranks.local_world_size,
            num_nodes=ranks.world_size // ranks.local_world_size,
            # Given, so that Lightning does not look for launchers of its own.
            plugins=[StartedRanks(ranks)],
            # DeepSpeed's strategy brings its own.
            precision=None if isinstance(strategy, ZeroRedundancy) else settings.precision,  # type: ignore[arg-type]
            max_steps=settings.num_steps,
            max_epochs=-1,
            accumulate_grad_batches=settings.micro_batches_per_step,
            gradient_clip_val=settings.gradient_clip_norm,
            val_check_interval=settings.val_every_n_steps * settings.micro_batches_per_step
            if self.has_validation
            else None,
            check_val_every_n_epoch=None if self.has_validation else 1,
            limit_val_batches=None if self.has_validation else 0,
            num_sanity_val_steps=0,
            # Our own callback logs, at step boundaries; Lightning's interval only governs log().
            log_every_n_steps=settings.log_every_n_steps,
            logger=loggers,
            callbacks=self._callbacks(),
            enable_progress_bar=settings.progress_bar,
            enable_model_summary=False,
            use_distributed_sampler=False,
            deterministic=settings.deterministic,
            # What FSDP allocates while it evaluates is used again in training, where autograd
            # refuses tensors that were made in inference mode. Lightning knows that of FSDP1 only.
            inference_mode=not isinstance(strategy, ShardedDataParallel),
            default_root_dir=folder,
        )

    @property
    def last_checkpoint(self) -> Path:
        return self.folder / "checkpoints" / "last.ckpt"

    def _callbacks(self) -> list[Callback]:
        settings = self.settings
        callbacks: list[Callback] = []
        if self.module.adalora is not None:
            # First: an optimizer step moves ranks that are masked, until the mask is applied again.
            callbacks.append(AdaLoraSteps())
        if settings.max_seconds is not None:
            callbacks.append(TimeBudget(settings.max_seconds, self.progress))
        callbacks += [
            self.progress,
            self.trainability,
            self.recording,
        ]
        if settings.progress_bar:
            callbacks.append(
                TrainingProgressBar(
                    refresh_rate=settings.micro_batches_per_step,
                    is_open=settings.max_seconds is not None,
                )
            )
        directory = self.folder / "checkpoints"
        if self.has_validation:
            callbacks.append(ValidateAtEnd())
            if settings.early_stopping is not None:
                patience, min_delta = settings.early_stopping
                callbacks.append(
                    EarlyStopping("val/loss", patience=patience, min_delta=min_delta, mode="min")
                )
            self._best = ModelCheckpoint(
                directory,
                filename="best",
                monitor="val/loss",
                mode="min",
                save_top_k=1,
                enable_version_counter=False,
                save_on_train_epoch_end=False,
            )
            callbacks.append(self._best)
        self._save_last = SaveLast(
            self.last_checkpoint,
            settings.save_every_n_steps,
            settings.val_every_n_steps if self.has_validation else None,
            self.requests,
        )
        # Lightning moves checkpoint callbacks to the end, and keeps their order.
        return [*callbacks, *settings.extra_callbacks, self._save_last]

    def measure_before(self) -> None:
        """Test the base model, its adapter switched off, as ``before/test/…``."""
        model = self.module.model
        trained = list(trainable_tensors(model).values())
        without_adapter = model.disable_adapter() if peft_type(model) else nullcontext()
        with without_adapter:
            # PEFT freezes what it switches off. FSDP settles at its first forward pass, which may
            # be this one, in which dtypes it reduces gradients, from what is trained then.
            for parameter in trained:
                parameter.requires_grad_(True)
            self.test()
        metrics = self.recorder.record.metrics
        for name in [name for name in metrics if name.startswith("test/")]:
            metrics[f"before/{name}"] = metrics.pop(name)
        self.recorder.write()

    def fit(self, *, resume: bool = False) -> None:
        """Train; with ``resume``, from ``last.ckpt`` on.

        Raises:
            UserError: There is no checkpoint to go on from.
        """
        if resume and not self.last_checkpoint.is_file():
            raise UserError(
                f"resume=true: there is no checkpoint at {self.last_checkpoint}. Name the folder "
                "of the run to go on with: hydra.run.dir=FOLDER"
            )
        self.module.train()
        with self.requests:
            self.trainer.fit(
                self.module,
                datamodule=self.datamodule,
                ckpt_path=str(self.last_checkpoint) if resume else None,
                weights_only=False,  # our own file: it holds random states beside tensors
            )
            if not self.trainability.result:
                # Killed behind its last step: there was nothing left to train, and no end of it.
                for callback in (self.trainability, self.recording):
                    callback.on_train_end(self.trainer, self.module)
            self._save_last.save(self.trainer)
        peaks = self.recorder.record.performance.setdefault("peak_memory_bytes", {})
        peaks["train"] = self.progress.peak_train_memory
        self.recorder.record.audit["trainability"] = self.trainability.result
        self.recorder.write()

    def keep_best_weights(self) -> int:
        """Load the best checkpoint where the settings ask for it; return its optimizer step."""
        step = int(self.trainer.global_step)
        best = self._best.best_model_path if self._best is not None else ""
        if self.settings.keep_best and best:
            barrier()
            checkpoint = read_header(Path(best))
            tensors = CheckpointTensors(Path(best), checkpoint)
            tensors.restore_parameters(self.strategy.trained_state(with_optimizer=False))
            if self.module.adalora is not None:
                self.module.adalora.load_state_dict(checkpoint["adalora"])
            step = int(checkpoint["global_step"])
        if self.module.adalora is not None:
            self.module.adalora.prepare_export()
        return step

    def test(self) -> None:
        """Measure the kept weights on the test rows, where there are any."""
        if not len(getattr(self.datamodule, "splits", {}).get("test", ())):
            return
        reset_peak_memory()
        self.trainer.test(self.module, datamodule=self.datamodule, verbose=False)
        peaks = self.recorder.record.performance.setdefault("peak_memory_bytes", {})
        peaks["eval"] = peak_memory_bytes()
        self.recorder.write()

    @property
    def export_folder(self) -> Path:
        """Where the trained weights go: ``adapter``, or ``model`` where all were trained."""
        return self.folder / ("adapter" if peft_type(self.module.model) else "model")

    @property
    def is_sharded(self) -> bool:
        """Whether each process has only a part of the model."""
        return self.strategy.writes_shards

    def gather(self) -> dict[str, torch.Tensor] | None:
        """Return the trained tensors, whole and in main memory, on rank 0; None on the others.

        All ranks take part.
        """
        state = self.strategy.trained_state(with_optimizer=False)
        gathered: dict[str, torch.Tensor] = {}
        for name in state.names:
            tensor = state.parameter(name)
            if self.settings.ranks.is_main:
                gathered[name] = tensor
        return gathered if self.settings.ranks.is_main else None

    def replace_model(self, model: Any, trained: dict[str, torch.Tensor]) -> None:
        """Put a whole model, made anew, in the place of one that was spread over processes.

        Args:
            model: Base model with an untrained adapter.
            trained: What :meth:`gather` returned.
        """
        state = TrainedState(model)
        for name in state.names:
            state.set_parameter(name, trained[name])
        self.module.model = model
        self.module.head = SupervisedHead(
            model, max_logits_elements=self.module.head.max_logits_elements
        )

    def save(self, tokenizer: Any, base_path: str) -> None:
        """Save the adapter, or the whole model where all weights were trained; on rank 0."""
        save_adapter(self.module.model, tokenizer, self.export_folder, base_path=base_path)
