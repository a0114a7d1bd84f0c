"""Accuracy of defect judgements, overall, per subtype and per class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from ift_lightning.metrics.judgement_text import normalized_judgement, parse_judgement
from ift_lightning.metrics.outcomes import wilson_interval
from ift_lightning.metrics.registry import MetricResult, check_pairs, defines_score

_SHARE = "share of answers, 0 to 1"


@defines_score("accuracy", unit=_SHARE, higher_is_better=True)
@defines_score("accuracy_macro", unit="mean of shares, 0 to 1", higher_is_better=True)
@defines_score("invalid_answers", unit=_SHARE, higher_is_better=False)
@defines_score("majority_baseline", unit=_SHARE, higher_is_better=None)
def judgement_accuracy(
    predictions: Sequence[str], references: Sequence[str], subtypes: Sequence[str]
) -> MetricResult:
    """Score judgements against those of the references.

    An answer that states no judgement, or one that no reference states, is invalid and wrong.

    Args:
        predictions: Answers.
        references: Reference answers, each with a judgement.
        subtypes: Kind of defect of each item.

    Returns:
        ``accuracy``, ``accuracy_macro`` (the mean over subtypes), ``invalid_answers`` and
        ``majority_baseline`` (the accuracy of always giving the commonest judgement), all shares
        from 0 to 1; in the details, counts, accuracies and Wilson intervals per subtype and class,
        and the confusion table.

    Raises:
        ValueError: A reference has no judgement, or the lists differ in length.
    """
    check_pairs(predictions, references)
    if len(subtypes) != len(references):
        raise ValueError(f"{len(subtypes)} subtypes, but {len(references)} references")
    truth = [parse_judgement(reference) for reference in references]
    for index, judgement in enumerate(truth):
        if judgement is None:
            raise ValueError(f"reference {index} states no judgement: {references[index][:80]!r}")
    stated = [judgement for judgement in truth if judgement is not None]
    # A class is shown as the first reference that states it spells it.
    classes: dict[str, str] = {}
    for judgement in stated:
        classes.setdefault(normalized_judgement(judgement), judgement)
    expected = [classes[normalized_judgement(judgement)] for judgement in stated]
    answers = [parse_judgement(prediction) for prediction in predictions]
    given = [classes.get(normalized_judgement(answer or "")) for answer in answers]
    correct = [answer == right for answer, right in zip(given, expected, strict=True)]
    per_subtype = _groups(subtypes, correct)
    invalid = sum(answer is None for answer in given)
    corpus = {
        "accuracy": sum(correct) / len(correct),
        "accuracy_macro": sum(item["accuracy"] for item in per_subtype.values()) / len(per_subtype),
        "invalid_answers": invalid / len(given),
        "majority_baseline": Counter(expected).most_common(1)[0][1] / len(expected),
    }
    details: dict[str, Any] = {
        "interval": wilson_interval(sum(correct), len(correct)),
        "num_items": len(correct),
        "per_subtype": per_subtype,
        "per_class": _groups(expected, correct),
        "confusion": _confusion(expected, given),
    }
    return MetricResult(corpus, {"accuracy": [float(flag) for flag in correct]}, details)


def _groups(names: Sequence[str], correct: Sequence[bool]) -> dict[str, dict[str, Any]]:
    """Return count, accuracy and interval of each group."""
    flags: dict[str, list[bool]] = {}
    for name, flag in zip(names, correct, strict=True):
        flags.setdefault(name, []).append(flag)
    return {
        name: {
            "num_items": len(items),
            "num_correct": sum(items),
            "accuracy": sum(items) / len(items),
            "interval": wilson_interval(sum(items), len(items)),
        }
        for name, items in sorted(flags.items())
    }


def _confusion(expected: Sequence[str], given: Sequence[str | None]) -> dict[str, dict[str, int]]:
    """Return how often each class was answered by each; invalid answers under ``invalid``."""
    table: dict[str, dict[str, int]] = {}
    for right, answer in zip(expected, given, strict=True):
        row = table.setdefault(right, {})
        name = "invalid" if answer is None else answer
        row[name] = row.get(name, 0) + 1
    return {name: dict(sorted(row.items())) for name, row in sorted(table.items())}
