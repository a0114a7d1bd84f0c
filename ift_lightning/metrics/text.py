"""Metrics of a text against one reference: exact match, BLEU, chrF, ROUGE."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ift_lightning.metrics.registry import MetricResult, check_pairs, metric
from ift_lightning.metrics.tokens import code_and_cjk_tokens


@metric(
    "exact_match",
    unit="share of items, 0 to 1",
    higher_is_better=True,
    source="https://arxiv.org/abs/1606.05250",
)
def exact_match(predictions: Sequence[str], references: Sequence[str]) -> MetricResult:
    """Share of predictions that are the reference, white space at both ends aside."""
    check_pairs(predictions, references)
    values: list[float | None] = [
        float(prediction.strip() == reference.strip())
        for prediction, reference in zip(predictions, references, strict=True)
    ]
    return MetricResult({"exact_match": _mean(values)}, {"exact_match": values})


@metric(
    "bleu",
    unit="0 to 100",
    higher_is_better=True,
    source="https://aclanthology.org/W18-6319/",
)
def bleu(
    predictions: Sequence[str], references: Sequence[str], *, tokenize: str = "13a"
) -> MetricResult:
    """BLEU of the corpus by sacrebleu; items by sentence BLEU with the effective order.

    White space, and so indentation, plays no part: a re-indented program scores 100.

    Args:
        predictions: One for each item.
        references: One for each item.
        tokenize: sacrebleu's tokenizer; "zh" for Chinese. It is part of the signature.
    """
    check_pairs(predictions, references)
    from sacrebleu.metrics.bleu import BLEU

    corpus = BLEU(tokenize=tokenize)
    score = corpus.corpus_score(list(predictions), [list(references)]).score
    sentence = BLEU(tokenize=tokenize, effective_order=True)
    values: list[float | None] = [
        sentence.sentence_score(prediction, [reference]).score
        for prediction, reference in zip(predictions, references, strict=True)
    ]
    details = {
        "signature": str(corpus.get_signature()),
        "sentence_signature": str(sentence.get_signature()),
    }
    return MetricResult({"bleu": score}, {"bleu": values}, details)


@metric(
    "chrf",
    unit="0 to 100",
    higher_is_better=True,
    source="https://aclanthology.org/W15-3049/",
)
def chrf(predictions: Sequence[str], references: Sequence[str]) -> MetricResult:
    """ChrF of the corpus, and of each item, by sacrebleu: F2 of character 6-grams."""
    check_pairs(predictions, references)
    from sacrebleu.metrics.chrf import CHRF

    scorer = CHRF()
    score = scorer.corpus_score(list(predictions), [list(references)]).score
    values: list[float | None] = [
        scorer.sentence_score(prediction, [reference]).score
        for prediction, reference in zip(predictions, references, strict=True)
    ]
    return MetricResult(
        {"chrf": score}, {"chrf": values}, {"signature": str(scorer.get_signature())}
    )


_ROUGE_TYPES = ("rouge1", "rouge2", "rougeL")


class _Given:
    """The tokenizer interface of rouge-score, for texts that are tokens already."""

    @staticmethod
    def tokenize(tokens: list[str]) -> list[str]:
        return tokens


@metric(
    "rouge",
    unit="F1, 0 to 1",
    higher_is_better=True,
    source="https://aclanthology.org/W04-1013/",
    scores=tuple(f"{name}{suffix}" for suffix in ("", "_upstream") for name in _ROUGE_TYPES),
)
def rouge(predictions: Sequence[str], references: Sequence[str]) -> MetricResult:
    """ROUGE-1, ROUGE-2 and ROUGE-L (F1, the mean over items), by rouge-score.

    ``rouge1``, ``rouge2`` and ``rougeL`` see the tokens of :func:`code_and_cjk_tokens`. Upstream's
    own tokens are runs of ``[a-z0-9]``, to which Chinese is empty and ``a + b`` is ``a - b``; their
    scores stand beside them as ``rouge1_upstream`` and so on.

    The package's table of the longest common subsequence grows with the product of both lengths:
    two texts of 10 kB take ten seconds and 100 MB. Its length is found here from bits instead.
    """
    check_pairs(predictions, references)
    from rouge_score.rouge_scorer import RougeScorer
    from rouge_score.scoring import fmeasure
    from rouge_score.tokenizers import DefaultTokenizer

    scorer = RougeScorer(["rouge1", "rouge2"], tokenizer=_Given())
    tokenizers: dict[str, Callable[[str], list[str]]] = {
        "": code_and_cjk_tokens,
        "_upstream": DefaultTokenizer(use_stemmer=False).tokenize,
    }
    values: dict[str, list[float | None]] = {}
    for suffix, tokenize in tokenizers.items():
        for prediction, reference in zip(predictions, references, strict=True):
            given, wanted = tokenize(prediction), tokenize(reference)
            scores = scorer.score(wanted, given)
            common = common_subsequence_length(wanted, given)
            longest = fmeasure(common / max(len(given), 1), common / max(len(wanted), 1))
            found = (scores["rouge1"].fmeasure, scores["rouge2"].fmeasure, longest)
            for name, value in zip(_ROUGE_TYPES, found, strict=True):
                values.setdefault(f"{name}{suffix}", []).append(float(value))
    return MetricResult({name: _mean(items) for name, items in values.items()}, values)


def common_subsequence_length(first: Sequence[str], second: Sequence[str]) -> int:
    """Return the length of the longest common subsequence of two lists of tokens.

    A row of the usual table is one integer with a bit for each token of ``first``; a bit is 0
    where the row grows (Hyyrö, 2004, "Bit-parallel LCS-length computation revisited").
    """
    places: dict[str, int] = {}
    for index, token in enumerate(first):
        places[token] = places.get(token, 0) | 1 << index
    every = (1 << len(first)) - 1
    row = every
    for token in second:
        matches = row & places.get(token, 0)
        row = (row + matches | row - matches) & every
    return len(first) - row.bit_count()


def _mean(values: Sequence[float | None]) -> float:
    numbers = [value for value in values if value is not None]
    return sum(numbers) / len(numbers)
