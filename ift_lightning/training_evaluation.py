"""Generated answers at both ends of a training run: of the base model, and of the tuned one."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from ift_lightning import assembly
from ift_lightning.config.schema import TrainConfig
from ift_lightning.data.split_files import TokenizedSplit
from ift_lightning.errors import UserError
from ift_lightning.evaluating import (
    Evaluator,
    build_decoding,
    load_rows,
    named,
    program_runner,
    refuse_vllm_in_training,
    save_evaluation,
    transformers_engine,
    wants_generation,
)
from ift_lightning.evaluation.display import (
    exclusions,
    left_out_by_language,
    sample_answers,
    score_table,
)
from ift_lightning.evaluation.scoring import Evaluation
from ift_lightning.trained_models import full_weights_key, weights_key
from ift_lightning.training.run_record import RunRecorder

BEFORE_FILE = "predictions_before.jsonl"


class TrainingEvaluation:
    """Generates and scores answers to a run's test rows, before and after tuning.

    Args:
        config: The run's config.
        tokenizer: The run's tokenizer.
        test_split: The test rows that training kept.
        recorder: The run's record.
    """

    def __init__(
        self, config: TrainConfig, tokenizer: Any, test_split: TokenizedSplit, recorder: RunRecorder
    ) -> None:
        self.config = config
        self.tokenizer = tokenizer
        self.test_split = test_split
        self.recorder = recorder
        self.folder = Path(config.run_dir)
        self.results: dict[str, Evaluation] = {}
        self._excluded: dict[str, str] | None = None
        # Of several processes, the one that writes generates, too.
        self.enabled = recorder.enabled and wants_generation(config, test_split)
        if self.enabled:
            refuse_vllm_in_training(config)

    def before(self, model: Any) -> None:
        """Measure the base model as ``before/test/…``; its answers are made once for all runs."""
        if self.enabled:
            key = weights_key(self.config, None)
            self._measure(model, key, "before/test", use_adapter=False, what="before tuning")

    def after(self, model: Any, export_folder: Path) -> None:
        """Measure the tuned model as ``test/…``."""
        if self.enabled:
            is_adapter = (export_folder / "adapter_config.json").is_file()
            key = (
                weights_key(self.config, export_folder)
                if is_adapter
                else full_weights_key(self.config, export_folder)
            )
            self._measure(model, key, "test", use_adapter=True, what="after tuning")

    def _measure(
        self, model: Any, key: dict[str, Any], prefix: str, *, use_adapter: bool, what: str
    ) -> None:
        config, record = self.config, self.recorder.record
        started = time.perf_counter()
        engine = transformers_engine(
            config, model, self.tokenizer, use_adapter=use_adapter, what=what
        )
        decoding = build_decoding(config, self.tokenizer, engine.model)
        rows = load_rows(
            config,
            self.tokenizer,
            self.folder / "rejected.jsonl",
            only=self.test_split,
            decoding=decoding,
            max_positions=engine.model.max_positions,
        )
        with program_runner(config, rows.items, required=bool(config.evaluate)) as sandbox:
            if sandbox is not None:
                record.environment["sandbox_level"] = str(sandbox.level)
            evaluator = Evaluator(
                config,
                self.tokenizer,
                rows,
                decoding,
                sandbox.run if sandbox is not None else None,
                excluded=self._excluded,
            )
            self._excluded = evaluator.excluded
            device = self._device_for(model)
            with explained_memory_errors(what), _on_device(model, device):
                completions, cost = evaluator.generate(engine, key)
            evaluation = evaluator.score(completions)
        self.results[prefix] = evaluation
        record.metrics |= named(evaluation.metrics, prefix)
        cost["seconds"] = round(time.perf_counter() - started, 3)
        record.performance.setdefault("generation", {})[prefix] = cost
        audit = record.audit.setdefault("evaluation", {"details": {}, "decoding": decoding.key()})
        audit["excluded"] = evaluation.excluded
        audit["details"][prefix] = evaluation.details
        name = "predictions.jsonl" if prefix == "test" else BEFORE_FILE
        save_evaluation(self.folder, evaluation, name)
        self.recorder.write()

    def _device_for(self, model: Any) -> str:
        """Return where to generate: on the GPU, unless the model does not fit there."""
        if not assembly.runs_on_gpu(self.config):
            return "cpu"
        if any(item.device.type == "cuda" for item in model.parameters()):
            return "cuda"
        needed, free = num_bytes(model), torch.cuda.mem_get_info()[0]
        if fits(needed, free):
            return "cuda"
        print(
            f"warning: the whole model needs {needed / 2**30:.1f} GiB, and rank 0's GPU has "
            f"{free / 2**30:.1f} GiB free: answers are generated on the CPU, which is slow. "
            "evaluate=false leaves them out"
        )
        return "cpu"

    @property
    def seconds(self) -> float:
        """Time that generating, running and scoring have taken."""
        parts = self.recorder.record.performance.get("generation", {})
        return float(sum(part["seconds"] for part in parts.values()))

    def report(self) -> str:
        """Return sample answers and scores for a terminal; empty where there are none."""
        after, before = self.results.get("test"), self.results.get("before/test")
        if after is None:
            return ""
        metrics = self.recorder.record.metrics
        earlier = None
        if before is not None:
            earlier = {
                name.removeprefix("before/"): value
                for name, value in metrics.items()
                if name.startswith("before/")
            }
        shown = [
            sample_answers(after.predictions, before.predictions if before else None),
            exclusions(after.excluded) + left_out_by_language(after.details),
            score_table(metrics, earlier),
        ]
        return "\n".join(part for part in shown if part)


def num_bytes(model: Any) -> int:
    """Return the bytes of a model's parameters and buffers."""
    tensors = [*model.parameters(), *model.buffers()]
    return sum(item.numel() * item.element_size() for item in tensors)


def fits(needed: int, free: int) -> bool:
    """Whether a model of ``needed`` bytes leaves room to generate in ``free`` bytes of a GPU.

    A tenth is kept for the cache of keys and values and for activations; whether that is enough
    depends on lengths and batch size.
    """
    return needed <= 0.9 * free


@contextmanager
def explained_memory_errors(what: str) -> Iterator[None]:
    """Say what to do where the GPU's memory does not do for generating.

    Args:
        what: "before tuning" or "after tuning".

    Raises:
        UserError: Instead of the GPU's own error.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise UserError(
            f"generating answers {what} needs more memory than the GPU has free: "
            f"{str(error).splitlines()[0]} Lower generation.batch_size or "
            "generation.max_new_tokens, or train with evaluate=false and evaluate the run later"
        ) from error


@contextmanager
def _on_device(model: Any, device: str) -> Iterator[None]:
    """Move a model for the block; the trainer leaves it on the CPU."""
    before = next(iter(model.parameters())).device
    if getattr(model, "is_quantized", False) or before.type == device:
        yield
        return
    model.to(device)
    try:
        yield
    finally:
        model.to(before)
