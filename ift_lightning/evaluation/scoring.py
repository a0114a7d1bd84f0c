"""Completions to verdicts and scores, with the rows that cannot be scored named."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ift_lightning.errors import UserError
from ift_lightning.evaluation.extraction import Extracted, extract_answer, strip_reasoning
from ift_lightning.evaluation.generation import Completion, FinishReason
from ift_lightning.evaluation.items import EvaluationItem
from ift_lightning.evaluation.predictions import Prediction
from ift_lightning.evaluation.sandbox import Outcome, Program, Verdict
from ift_lightning.metrics import (
    MetricResult,
    codebleu_language,
    execution_success,
    extraction_failures,
    judgement_accuracy,
    parse_judgement,
    pass_at_ks,
)

RunPrograms = Callable[[Sequence[Program]], Iterable[Outcome]]
"""Runs programs and yields their outcomes; a sandbox's ``run``."""


@dataclass(frozen=True, slots=True)
class TextMetric:
    """A metric of texts against references, with its options.

    Args:
        function: Maps predictions and references to a result.
        needs_language: Whether it is computed per language; rows of other languages have none.
        default_language: Of rows that name none; empty to leave them out.
    """

    name: str
    function: Callable[..., MetricResult]
    options: Mapping[str, Any] = field(default_factory=dict)
    needs_language: bool = False
    default_language: str = ""


@dataclass(slots=True)
class Evaluation:
    """The outcome of an evaluation.

    Args:
        predictions: Every answer, in the order of rows and samples.
        metrics: Scores over the rows that were not excluded, by name.
        details: What belongs to the scores: signatures, intervals, counts.
        excluded: Row id to the reason why it is left out of the scores.
    """

    predictions: list[Prediction]
    metrics: dict[str, float]
    details: dict[str, Any]
    excluded: dict[str, str]


def broken_references(items: Sequence[EvaluationItem], run: RunPrograms) -> dict[str, str]:
    """Run the reference answers of all rows with tests; return those that fail, with the reason.

    A reference goes through the same extraction as an answer.
    """
    runnable = [item for item in items if item.is_runnable]
    programs = [_program(item, item.extract(item.reference).code, item.id) for item in runnable]
    reasons = {}
    for outcome in run(programs):
        if outcome.verdict is not Verdict.PASS:
            detail = f": {outcome.detail}" if outcome.detail else ""
            reasons[outcome.id] = (
                f"its reference answer fails its own tests ({outcome.verdict.value}{detail})"
            )
    return reasons


def _program(item: EvaluationItem, code: str, program_id: str) -> Program:
    return Program(id=program_id, code=code, entry_point=item.entry_point, tests=item.tests)


def score(
    items: Sequence[EvaluationItem],
    completions: Mapping[str, Sequence[Completion]],
    *,
    run: RunPrograms | None,
    metrics: Sequence[TextMetric],
    ks: Sequence[int] = (1, 10),
    judgements: bool = False,
    excluded: Mapping[str, str] | None = None,
) -> Evaluation:
    """Extract, run and score answers.

    Args:
        items: Rows.
        completions: Row id to its samples; each row has as many.
        run: Runs programs; None where no code may be run, so that rows with tests get no verdict.
        metrics: Of texts.
        judgements: Whether judgements are scored, where references state one.
        ks: Values of k; those above the number of samples are left out, unless all are.
        excluded: Rows that are left out of the scores, with the reason.
    """
    left_out = dict(excluded or {})
    predictions = [
        Prediction(
            item,
            completion,
            item.extract(
                completion.text, is_cut_off=completion.finish_reason is FinishReason.LENGTH
            ),
            excluded=left_out.get(item.id),
        )
        for item in items
        for completion in completions[item.id]
    ]
    result = Evaluation(predictions, {}, {}, left_out)
    scored = [prediction for prediction in predictions if prediction.excluded is None]
    if not scored:
        raise UserError(
            f"no row is left to score: all {len(items)} are excluded; the first because "
            f"{next(iter(left_out.values()), 'there are none')}"
        )
    if run is not None:
        _run_all(result, scored, run, ks)
    _count_extractions(result, scored)
    for metric in metrics:
        _apply(metric, scored, result)
    if judgements:
        _score_judgements(result, scored)
    return result


def _run_all(
    result: Evaluation,
    scored: Sequence[Prediction],
    run: RunPrograms,
    ks: Sequence[int],
) -> None:
    runnable = [prediction for prediction in scored if prediction.item.is_runnable]
    if not runnable:
        return
    programs = [
        _program(p.item, p.extraction.code, f"{p.item.id}#{p.completion.sample}") for p in runnable
    ]
    executed: list[bool] = []
    num_in_child = 0
    verdicts: dict[str, int] = {}
    for prediction, outcome in zip(runnable, run(programs), strict=True):
        prediction.verdict = outcome.verdict.value
        failed = prediction.extraction.status is not Extracted.CODE
        prediction.detail = (
            prediction.extraction.status.value
            if failed and outcome.verdict is Verdict.NO_CODE
            else outcome.detail
        )
        passed = outcome.verdict is Verdict.PASS
        prediction.metrics |= {
            "pass": float(passed),
            "execution_success": float(outcome.executed),
            "num_tests_passed": outcome.num_passed,
            "num_tests": outcome.num_tests,
        }
        executed.append(outcome.executed)
        num_in_child += outcome.judged_in_child
        verdicts[prediction.verdict] = verdicts.get(prediction.verdict, 0) + 1
    by_item: dict[str, list[bool]] = {}
    for prediction in runnable:
        by_item.setdefault(prediction.item.id, []).append(prediction.verdict == Verdict.PASS.value)
    possible = _possible(ks, min(len(passed) for passed in by_item.values()))
    result.metrics |= pass_at_ks(list(by_item.values()), possible).corpus
    result.metrics |= execution_success(executed).corpus
    result.details["execution"] = {
        "num_items": len(by_item),
        "num_programs": len(runnable),
        "verdicts": dict(sorted(verdicts.items())),
        "num_judged_in_child": num_in_child,
        "pass@1_by_category": _by(runnable, lambda p: p.item.category),
        "pass@1_by_subtype": _by(runnable, lambda p: p.item.subtype),
    }


def _possible(ks: Sequence[int], num_samples: int) -> list[int]:
    possible = [k for k in ks if 1 <= k <= num_samples]
    if not possible:
        raise UserError(
            f"pass@k with k={min(ks, default=0)} needs at least as many samples, and the rows have "
            f"{num_samples}; raise generation.num_samples"
        )
    return possible


def _by(predictions: Sequence[Prediction], key: Callable[[Prediction], str]) -> dict[str, float]:
    groups: dict[str, list[float]] = {}
    for prediction in predictions:
        groups.setdefault(key(prediction), []).append(prediction.metrics["pass"])
    return {name: mean(values) for name, values in sorted(groups.items()) if name}


def _count_extractions(result: Evaluation, scored: Sequence[Prediction]) -> None:
    statuses: dict[str, int] = {}
    for prediction in scored:
        name = prediction.extraction.status.value
        statuses[name] = statuses.get(name, 0) + 1
    num_cut = sum(p.completion.finish_reason is FinishReason.LENGTH for p in scored)
    failed = [prediction.extraction.status is not Extracted.CODE for prediction in scored]
    result.metrics |= extraction_failures(failed).corpus
    result.metrics["cut_off"] = num_cut / len(scored)
    result.details["extraction"] = dict(sorted(statuses.items()))
    result.details["num_tokens"] = sum(p.completion.num_tokens for p in scored)


def _score_judgements(result: Evaluation, scored: Sequence[Prediction]) -> None:
    judged = [p for p in scored if parse_judgement(p.item.reference) is not None]
    if not judged:
        return
    outcome = judgement_accuracy(
        # Not the extracted answer: a fenced block in the reason would take the judgement's place.
        [strip_reasoning(prediction.completion.text) or "" for prediction in judged],
        [prediction.item.reference for prediction in judged],
        [prediction.item.subtype for prediction in judged],
    )
    result.metrics |= outcome.corpus
    result.details["judgement"] = outcome.details
    for prediction, value in zip(judged, outcome.per_item["accuracy"], strict=True):
        prediction.metrics["accuracy"] = value


def answer_text(prediction: Prediction) -> str:
    """Return what is compared with the reference: the answer as it was written.

    Of a bare function body that is the body, as the reference is, not the program made of it.
    """
    return extract_answer(prediction.completion.text).code


def _apply(metric: TextMetric, scored: Sequence[Prediction], result: Evaluation) -> None:
    for language, part in _parts(metric, scored):
        options = dict(metric.options)
        if metric.needs_language:
            options["language"] = language
        outcome = metric.function(
            [answer_text(prediction) for prediction in part],
            [prediction.item.reference for prediction in part],
            **options,
        )
        suffix = "" if language == _main_language(metric, scored) else f"_{language}"
        result.metrics |= {f"{name}{suffix}": value for name, value in outcome.corpus.items()}
        if outcome.details:
            result.details[f"{metric.name}{suffix}"] = outcome.details
        for name, values in outcome.per_item.items():
            for prediction, value in zip(part, values, strict=True):
                prediction.metrics[name] = value


def _parts(
    metric: TextMetric, scored: Sequence[Prediction]
) -> Iterator[tuple[str, list[Prediction]]]:
    if not metric.needs_language:
        yield "", list(scored)
        return
    by_language: dict[str, list[Prediction]] = {}
    for prediction in scored:
        language = codebleu_language(prediction.item.language or metric.default_language)
        if language is not None:
            by_language.setdefault(language, []).append(prediction)
    yield from by_language.items()


def _main_language(metric: TextMetric, scored: Sequence[Prediction]) -> str:
    if not metric.needs_language:
        return ""
    parts = dict(_parts(metric, scored))
    return max(parts, key=lambda name: len(parts[name]), default="")


def mean(values: Iterable[float]) -> float:
    """Return the mean of values, of which there is at least one."""
    numbers = [float(value) for value in values]
    return sum(numbers) / len(numbers)
