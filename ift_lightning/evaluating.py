"""Generates answers to test rows and scores them: one code path for ``train`` and ``evaluate``."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ift_lightning import assembly
from ift_lightning.config.generation_schema import GenerationEngine
from ift_lightning.config.schema import BadRows, DataSource, Overflow, TrainConfig
from ift_lightning.data.split_files import TokenizedSplit
from ift_lightning.data.token_cache import json_line
from ift_lightning.errors import BadRowError, UserError
from ift_lightning.evaluation.completion_store import CompletionStore, generate_all
from ift_lightning.evaluation.decoding_model import DecodingModel
from ift_lightning.evaluation.generation import (
    Completion,
    Decoding,
    Engine,
    Prompt,
    end_token_ids,
)
from ift_lightning.evaluation.items import EvaluationItem, item_of
from ift_lightning.evaluation.predictions import write_predictions
from ift_lightning.evaluation.scoring import Evaluation, RunPrograms, broken_references, score
from ift_lightning.evaluation.transformers_engine import TransformersEngine
from ift_lightning.modeling.loading import tokenizer_fingerprint
from ift_lightning.scorers import build_sandbox, text_metrics
from ift_lightning.types import InstructionRecord, RejectedRow, json_fingerprint

_MOST_ROWS = 1000
"""Test rows above which training does not generate unless it is asked to."""


@dataclass(slots=True)
class EvaluationRows:
    """The rows of an evaluation, in order; ``prompts`` is empty where there is no tokenizer."""

    items: list[EvaluationItem]
    prompts: list[Prompt]
    num_rejected: int = 0

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that identify rows and prompts."""
        return json_fingerprint([[i.id, i.prompt, i.reference, i.tests] for i in self.items])


def load_rows(
    config: TrainConfig,
    tokenizer: Any | None,
    rejected_path: Path,
    *,
    split: str = "test",
    only: TokenizedSplit | None = None,
    decoding: Decoding | None = None,
    max_positions: int | None = None,
) -> EvaluationRows:
    """Return the rows of a split with the prompts that training would have given them.

    Args:
        config: Says where rows come from and how they are rendered.
        tokenizer: Makes the prompts; None for none (answers are there already).
        rejected_path: Written where rows had to be left out.
        split: Name of the split.
        only: Rows that training kept; others are left out, as they are from its test loss.
        decoding: Says how much room an answer needs.
        max_positions: Tokens that the model reads at most.

    Raises:
        UserError: Rows that cannot be used, or none at all.
    """
    rejected: list[RejectedRow] = []
    builder = assembly.build_example_builder(config, tokenizer) if tokenizer is not None else None
    kept = {only.id_of(index) for index in range(len(only))} if only is not None else None
    rows = EvaluationRows([], [])
    source = assembly.build_source(config.data)
    for name, raw, record in assembly.build_preparation(config).records(source, rejected.append):
        if name != split or (kept is not None and record.id not in kept):
            continue
        if builder is None:
            rows.items.append(item_of(record, _plain_prompt(record)))
            continue
        try:
            ids = builder.prompt_ids(record)
        except BadRowError as error:
            rejected.append(RejectedRow(raw.location, str(error), error.field, dict(raw.values)))
            continue
        if config.data.overflow is Overflow.cut_prompt and decoding and max_positions:
            room = max_positions - decoding.max_new_tokens
            ids = _cut(ids, room, builder.tokenizer.bos_token_id)
        rows.items.append(item_of(record, builder.prompt_text(record)))
        rows.prompts.append(Prompt(record.id, tuple(ids)))
    rows.num_rejected = len(rejected)
    _account_for(rejected, config, rejected_path, is_known=only is not None)
    if not rows.items:
        raise UserError(
            f"data={config.data.name} has no rows in its {split} split; look at "
            f"data.{split}_fraction, data.num_{split} and data.{split}_path"
        )
    return rows


def _plain_prompt(record: InstructionRecord) -> str:
    if record.messages:
        return record.messages[-2].content
    return "\n".join(filter(None, (record.instruction, record.input)))


def _cut(ids: list[int], room: int, bos_token_id: int | None) -> list[int]:
    """Cut a prompt from the left to ``room`` tokens; BOS stays."""
    keep = 1 if ids and ids[0] == bos_token_id else 0
    excess = len(ids) - max(room, keep + 1)
    return ids[:keep] + ids[keep + excess :] if excess > 0 else ids


def _account_for(
    rejected: Sequence[RejectedRow], config: TrainConfig, path: Path, *, is_known: bool
) -> None:
    """Write the rows that were left out; stop unless the config skips them."""
    if not rejected or is_known:  # training has accounted for them
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json_line(row) for row in rejected), encoding="utf-8")
    if config.data.bad_rows is BadRows.skip:
        return
    shown = "\n  ".join(f"{row.location}: {row.reason}" for row in rejected[:8])
    raise UserError(
        f"{len(rejected)} rows cannot be used:\n  {shown}\nAll of them are in {path}. Correct "
        "them, or leave them out with data.bad_rows=skip"
    )


def build_decoding(config: TrainConfig, tokenizer: Any, model: Any | None) -> Decoding:
    """Return how answers are generated: the config's choice, and the template's ends."""
    settings, template = config.generation, config.template
    room = settings.max_new_tokens
    if room is None:
        room = config.data.max_new_tokens + config.cot_level.max_new_tokens
    end = assembly.build_template(template).end_text(tokenizer)
    ids = end_token_ids(tokenizer, model, end)
    stop = [*template.stop, *settings.stop]
    # An end that is text, rather than a token, has to be looked for.
    if end.strip() and not any(end.strip() == tokenizer.decode([token]) for token in ids):
        stop.append(end.strip())
    return Decoding(
        max_new_tokens=room,
        do_sample=settings.do_sample,
        num_samples=settings.num_samples,
        temperature=settings.temperature,
        top_p=settings.top_p,
        seed=settings.seed,
        stop=tuple(dict.fromkeys(stop)),
        end_token_ids=ids,
    )


def wants_generation(config: TrainConfig, test_split: TokenizedSplit) -> bool:
    """Whether training is to end with generated answers."""
    if not len(test_split):
        return False
    if config.evaluate is not None:
        return config.evaluate
    is_generated = config.data.source in (DataSource.drills, DataSource.defect_drills)
    if is_generated and config.data.path is None:
        return config.data_variant.name != "reverse" and len(test_split) <= _MOST_ROWS
    if len(test_split) > _MOST_ROWS:
        return False
    source = assembly.build_source(config.data)
    kept = {test_split.id_of(index) for index in range(len(test_split))}
    rows = assembly.build_preparation(config).records(source, lambda _: None)
    return any(record.tests for _, _, record in rows if record.id in kept)


class Evaluator:
    """Generates and scores answers to the same rows with one model after another.

    Args:
        config: The run.
        tokenizer: The model's.
        rows: What is asked.
        decoding: How.
        run: Runs programs; None where no code may be run.
        check_references: Run the reference answers first.
        excluded: Rows whose references were found to fail, where that is known already.
    """

    def __init__(
        self,
        config: TrainConfig,
        tokenizer: Any,
        rows: EvaluationRows,
        decoding: Decoding,
        run: RunPrograms | None,
        *,
        check_references: bool = True,
        excluded: Mapping[str, str] | None = None,
    ) -> None:
        self.config = config
        self.tokenizer = tokenizer
        self.rows = rows
        self.decoding = decoding
        self.run = run
        self.excluded: dict[str, str] = dict(excluded or {})
        if check_references and run is not None and excluded is None:
            self.excluded = broken_references(rows.items, run)

    def generate(
        self, engine: Engine, weights_key: Any
    ) -> tuple[dict[str, list[Completion]], dict[str, Any]]:
        """Return completions, those of an earlier try included, and how long they took.

        Args:
            engine: Generates.
            weights_key: JSON value that identifies base weights and adapter.
        """
        store = completion_store(
            self.config, self.tokenizer, engine.name, weights_key, self.decoding
        )
        started = time.perf_counter()
        completions, num_found = generate_all(engine, self.rows.prompts, self.decoding, store)
        seconds = time.perf_counter() - started
        new = [c for samples in completions.values() for c in samples]
        return completions, {
            "generation_seconds": round(seconds, 3),
            "num_completions": len(new),
            "num_completions_from_cache": num_found,
            "num_generated_tokens": sum(c.num_tokens for c in new),
        }

    def score(self, completions: Mapping[str, Sequence[Completion]]) -> Evaluation:
        """Run and score completions."""
        return score(
            self.rows.items,
            completions,
            run=self.run,
            excluded=self.excluded,
            metrics=text_metrics(self.config.metrics),
            ks=self.config.metrics.ks,
            judgements=self.config.metrics.judgements,
        )


def completion_store(
    config: TrainConfig, tokenizer: Any, engine_name: str, weights_key: Any, decoding: Decoding
) -> CompletionStore | None:
    """Return where completions of a model are kept; None where the config keeps none.

    Args:
        config: Says how the model is loaded.
        tokenizer: The model's.
        engine_name: What generates.
        weights_key: JSON value that identifies base weights and adapter.
        decoding: How completions are made.
    """
    if not config.generation.keep_completions:
        return None
    model_key = [
        weights_key,
        tokenizer_fingerprint(tokenizer),
        assembly.plain(config.precision),
        config.attention.implementation,
        config.model.add_tokens,
        engine_name,
        torch.__version__,
        "cuda" if assembly.runs_on_gpu(config) else "cpu",
    ]
    folder = Path(config.data.cache_dir).expanduser() / "completions"
    return CompletionStore(folder, model_key, decoding)


def transformers_engine(
    config: TrainConfig, model: Any, tokenizer: Any, *, use_adapter: bool = True, what: str = ""
) -> TransformersEngine:
    """Return the engine that generates with a model in memory."""
    lightning_precision = config.precision.trainer
    autocast = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(lightning_precision)
    return TransformersEngine(
        DecodingModel(model, use_adapter=use_adapter, autocast=autocast),
        tokenizer,
        batch_size=config.generation.batch_size,
        progress_bar=config.trainer.progress_bar,
        description=" ".join(filter(None, ("generating", what))),
    )


def refuse_vllm_in_training(config: TrainConfig) -> None:
    """Training has its model in memory; a second one beside it would not fit.

    Raises:
        UserError: The config asks for vLLM.
    """
    if config.generation.engine is not GenerationEngine.transformers:
        raise UserError(
            "generation.engine=vllm cannot share a GPU with training; train with evaluate=false, "
            "then run python -m ift_lightning.evaluate run=FOLDER generation.engine=vllm"
        )


def named(metrics: Mapping[str, float], prefix: str) -> dict[str, float]:
    """Return metrics under ``prefix/…``."""
    return {f"{prefix}/{name}": value for name, value in metrics.items()}


def save_evaluation(folder: Path, evaluation: Evaluation, name: str = "predictions.jsonl") -> Path:
    """Write the predictions of an evaluation; return the file."""
    path = folder / name
    write_predictions(path, evaluation.predictions)
    return path


@contextmanager
def program_runner(
    config: TrainConfig, items: Sequence[EvaluationItem], *, required: bool = True
) -> Iterator[Any]:
    """Give a sandbox where any row has tests, and None where none has.

    Args:
        config: Says how programs are contained.
        items: Rows.
        required: Whether it is an error that programs cannot be contained here. Otherwise that is
            said, and nothing is run.
    """
    if not any(item.is_runnable for item in items):
        yield None
        return
    with ExitStack() as stack:
        sandbox = None
        try:
            sandbox = stack.enter_context(build_sandbox(config.sandbox))
        except UserError as error:
            if required:
                raise
            print(f"note: generated programs are not run: {error}")
        yield sandbox
