"""``evaluate``: one model, or a file of answers, scored on the rows of a data set."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig

from ift_lightning import assembly
from ift_lightning.config.checks import check_hardware
from ift_lightning.config.evaluate_schema import EvaluateConfig
from ift_lightning.config.generation_schema import GenerationEngine
from ift_lightning.errors import UserError
from ift_lightning.evaluating import (
    EvaluationRows,
    Evaluator,
    build_decoding,
    load_rows,
    named,
    program_runner,
    save_evaluation,
    transformers_engine,
)
from ift_lightning.evaluation.display import exclusions, sample_answers, score_table
from ift_lightning.evaluation.generation import Completion, Decoding
from ift_lightning.evaluation.predictions import read_completions
from ift_lightning.evaluation.scoring import Evaluation
from ift_lightning.modeling.adapters import peft_type
from ift_lightning.modeling.loading import load_config
from ift_lightning.trained_models import (
    ModelChoice,
    choose_model,
    load_chosen_model,
    load_chosen_tokenizer,
)
from ift_lightning.training.memory import peak_memory_bytes, reset_peak_memory
from ift_lightning.training.run_record import RunRecorder, describe_environment
from ift_lightning.types import SPLITS, RunRecord, json_fingerprint

Completions = dict[str, list[Completion]]


def evaluate(config: EvaluateConfig) -> dict[str, float]:
    """Generate where there are no answers yet, score, and leave a run folder behind.

    Returns:
        The metrics of the run record.

    Raises:
        UserError: Something that was given cannot be used; the run record says so, too.
    """
    return EvaluationRun(config).run()


class EvaluationRun:
    """The steps of one evaluation.

    Args:
        config: A config that :func:`check_config` has let through.
    """

    def __init__(self, config: EvaluateConfig) -> None:
        self.config = config
        self.folder = Path(config.run_dir)
        self.record = RunRecord(
            name=config.name,
            seed=config.generation.seed,
            overrides=(list(HydraConfig.get().overrides.task) if HydraConfig.initialized() else []),
            config_fingerprint=json_fingerprint(
                [assembly.config_fingerprint(config), assembly.plain(config.generation)]
            ),
        )
        self.recorder = RunRecorder(self.folder, self.record)

    def run(self) -> dict[str, float]:
        """Go through all steps; see :func:`evaluate`."""
        config, record = self.config, self.record
        with self.recorder.running():
            if config.split not in SPLITS:
                raise UserError(f"split={config.split}: choose one of {', '.join(SPLITS)}")
            if config.trainer.num_threads is not None:
                torch.set_num_threads(config.trainer.num_threads)
            record.environment = describe_environment()
            check_hardware(config, assembly.look_at_machine())
            started = time.perf_counter()
            reset_peak_memory()
            if config.predictions:
                evaluation = self._score_file(Path(config.predictions).expanduser())
            else:
                evaluation = self._generate_and_score(choose_model(config))
            record.metrics = named(evaluation.metrics, config.split)
            record.performance |= {
                "eval_seconds": round(time.perf_counter() - started, 3),
                "peak_memory_bytes": {"eval": peak_memory_bytes()},
            }
            path = save_evaluation(self.folder, evaluation)
            record.audit["evaluation"] = {
                "excluded": evaluation.excluded,
                "details": {config.split: evaluation.details},
            }
        self._show(evaluation, path)
        return record.metrics

    def _score_file(self, path: Path) -> Evaluation:
        rows = load_rows(self.config, None, self.folder / "rejected.jsonl", split=self.config.split)
        completions = read_completions(path, [item.id for item in rows.items])
        self._describe_rows(rows)
        with program_runner(self.config, rows.items) as sandbox:
            self._note_sandbox(sandbox)
            decoding = Decoding(1)  # nothing is generated
            evaluator = Evaluator(
                self.config,
                None,
                rows,
                decoding,
                sandbox.run if sandbox is not None else None,
                check_references=self.config.check_references,
            )
            self.record.model = {"name": None, "predictions": str(path)}
            return evaluator.score(completions)

    def _generate_and_score(self, choice: ModelChoice) -> Evaluation:
        config = self.config
        tokenizer = load_chosen_tokenizer(config, choice)
        model_config = load_config(
            choice.base_path,
            revision=choice.revision,
            trust_remote_code=config.model.trust_remote_code,
        )
        decoding = build_decoding(config, tokenizer, _generation_config(choice, config))
        rows = load_rows(
            config,
            tokenizer,
            self.folder / "rejected.jsonl",
            split=config.split,
            decoding=decoding,
            max_positions=getattr(model_config, "max_position_embeddings", None),
        )
        self._describe_rows(rows)
        self.record.data["decoding"] = decoding.key()
        with program_runner(config, rows.items) as sandbox:
            self._note_sandbox(sandbox)
            evaluator = Evaluator(
                config,
                tokenizer,
                rows,
                decoding,
                sandbox.run if sandbox is not None else None,
                check_references=config.check_references,
            )
            engine = self._engine(choice, tokenizer)
            completions, cost = evaluator.generate(engine, choice.key)
            self.record.performance |= cost
            self.recorder.write()
            return evaluator.score(completions)

    def _engine(self, choice: ModelChoice, tokenizer: Any) -> Any:
        config = self.config
        self.record.model = {
            "name": config.model.name,
            "path": choice.base_path,
            "revision": choice.revision,
            "adapter": str(choice.adapter) if choice.adapter else None,
            "run": config.run,
            "weights_fingerprint": choice.key["base"],
        }
        self.recorder.write()
        if config.generation.engine is GenerationEngine.vllm:
            from ift_lightning.evaluation.vllm_engine import VllmEngine

            return VllmEngine(
                choice.base_path,
                adapter=choice.adapter,
                adapter_rank=_lora_rank(choice),
                options=dict(config.generation.engine_options),
            )
        model = load_chosen_model(config, choice, tokenizer)
        self.record.model |= {"family": model.config.model_type, "peft": peft_type(model)}
        return transformers_engine(config, model, tokenizer)

    def _describe_rows(self, rows: EvaluationRows) -> None:
        config = self.config
        self.record.data = {
            "name": config.data.name,
            "variant": config.data_variant.name,
            "cot_level": config.cot_level.name,
            "template": config.template.name,
            "split": config.split,
            "fingerprint": rows.fingerprint,
            f"num_{config.split}": len(rows.items),
            "num_runnable": sum(item.is_runnable for item in rows.items),
            "num_rejected": rows.num_rejected,
        }
        self.recorder.write()
        print(f"data: {len(rows.items)} rows of {config.data.name}, "
              f"{self.record.data['num_runnable']} of them with tests")  # fmt: skip

    def _note_sandbox(self, sandbox: Any) -> None:
        if sandbox is not None:
            self.record.environment["sandbox_level"] = str(sandbox.level)
            self.recorder.write()

    def _show(self, evaluation: Evaluation, path: Path) -> None:
        config = self.config
        if config.num_shown:
            print(sample_answers(evaluation.predictions, at_most=config.num_shown))
        print(f"\n{score_table(self.record.metrics, prefix=config.split)}")
        print(exclusions(evaluation.excluded))
        print(f"run folder:  {self.folder}\npredictions: {path}")


def _generation_config(choice: ModelChoice, config: EvaluateConfig) -> Any:
    """Return something with the end tokens that the model's generation config names."""
    from transformers import GenerationConfig

    try:
        found = GenerationConfig.from_pretrained(choice.base_path, revision=choice.revision)
    except (OSError, ValueError):
        return None
    return type("Model", (), {"generation_config": found})()


def _lora_rank(choice: ModelChoice) -> int | None:
    """Return the adapter's rank for vLLM, which serves LoRA adapters alone.

    Raises:
        UserError: The adapter is of another kind.
    """
    if choice.adapter is None:
        return None
    settings = json.loads((choice.adapter / "adapter_config.json").read_text(encoding="utf-8"))
    if settings.get("peft_type") != "LORA" or settings.get("use_dora"):
        raise UserError(
            f"generation.engine=vllm serves LoRA adapters, and {choice.adapter} is "
            f"{settings.get('peft_type')}; use generation.engine=transformers"
        )
    return int(settings["r"])
