"""BLEU, chrF, ROUGE and exact match against their reference implementations."""

from __future__ import annotations

import subprocess
import sys

import pytest
import sacrebleu
from rouge_score.rouge_scorer import RougeScorer

from ift_lightning.errors import UserError
from ift_lightning.metrics import METRICS, bleu, chrf, exact_match, get_metric, rouge
from ift_lightning.metrics.tokens import code_and_cjk_tokens

PREDICTIONS = ["def f(x):\n    return x + 1", "the cat sat on the mat", "", "判断:有缺陷"]
REFERENCES = ["def f(x):\n    return x - 1", "the cat is on the mat", "something", "判断:有缺陷"]


def test_importing_loads_no_heavy_library() -> None:
    code = (
        "import sys, ift_lightning.metrics\n"
        "heavy = {'torch', 'transformers', 'codebleu', 'sacrebleu', 'rouge_score', 'scipy'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_metric_says_what_it_is() -> None:
    assert set(METRICS) == {"exact_match", "bleu", "chrf", "rouge", "codebleu"}
    for item in METRICS.values():
        assert item.unit and item.source.startswith("https://") and item.function.__doc__
    with pytest.raises(UserError, match="Did you mean 'bleu'"):
        get_metric("bleuu")


@pytest.mark.parametrize("name", ["exact_match", "bleu", "chrf", "rouge", "codebleu"])
def test_lists_have_to_fit(name: str) -> None:
    for predictions, references in ((["a"], []), ([], [])):
        with pytest.raises(ValueError):
            METRICS[name].function(predictions, references)


def test_bleu_is_sacrebleu() -> None:
    result = bleu(PREDICTIONS, REFERENCES)
    assert result.corpus["bleu"] == sacrebleu.corpus_bleu(PREDICTIONS, [REFERENCES]).score
    for value, one, other in zip(result.per_item["bleu"], PREDICTIONS, REFERENCES, strict=True):
        assert value == sacrebleu.sentence_bleu(one, [other]).score
    assert "tok:13a" in result.details["signature"] and "version:" in result.details["signature"]
    assert "eff:yes" in result.details["sentence_signature"]


def test_bleu_of_chinese() -> None:
    assert bleu(["这个函数有缺陷"], ["这个函数有缺陷"], tokenize="zh").corpus[
        "bleu"
    ] == pytest.approx(100)
    assert 0 < bleu(["这个函数有缺陷"], ["这个函数无缺陷"], tokenize="zh").corpus["bleu"] < 100


def test_references_are_not_transposed() -> None:
    # One reference of each item, not all references of the first.
    assert bleu(["a b c d", "e f g h"], ["a b c d", "e f g h"]).corpus["bleu"] == pytest.approx(100)


def test_chrf_is_sacrebleu() -> None:
    result = chrf(PREDICTIONS, REFERENCES)
    assert result.corpus["chrf"] == sacrebleu.corpus_chrf(PREDICTIONS, [REFERENCES]).score
    assert (
        result.per_item["chrf"][1] == sacrebleu.sentence_chrf(PREDICTIONS[1], [REFERENCES[1]]).score
    )


def test_rouge_upstream_is_rouge_score() -> None:
    result = rouge(PREDICTIONS, REFERENCES)
    scorer = RougeScorer(["rouge1", "rouge2", "rougeL"])
    for index, (one, other) in enumerate(zip(PREDICTIONS, REFERENCES, strict=True)):
        for name, score in scorer.score(other, one).items():
            assert result.per_item[f"{name}_upstream"][index] == score.fmeasure
    mean = sum(result.per_item["rougeL"]) / 4
    assert result.corpus["rougeL"] == pytest.approx(mean)


def test_rouge_sees_operators_and_chinese() -> None:
    scores = rouge(["a + b", "有缺陷"], ["a - b", "有缺陷"]).per_item
    assert scores["rouge1_upstream"] == [1.0, 0.0]
    assert scores["rouge1"] == [pytest.approx(2 / 3), 1.0]
    # By hand: 1 of 2 bigrams of each side, "有缺"; the longest common part has 2 of 3 tokens.
    partly = rouge(["有缺陷"], ["有缺点"]).corpus
    assert (partly["rouge2"], partly["rougeL"]) == (0.5, pytest.approx(2 / 3))


def test_tokens() -> None:
    assert code_and_cjk_tokens("x_1 += f(总数)\n") == ["x_1", "+", "=", "f", "(", "总", "数", ")"]
    assert code_and_cjk_tokens("naïve Ünï 3.5") == ["naïve", "Ünï", "3", ".", "5"]
    assert code_and_cjk_tokens("  \n") == []


def test_exact_match() -> None:
    result = exact_match(["a ", "b", "A"], ["a", "c", "a"])
    assert result.corpus == {"exact_match": 1 / 3}
    assert result.per_item == {"exact_match": [1.0, 0.0, 0.0]}


@pytest.mark.parametrize("function", [bleu, chrf, rouge, exact_match])
def test_order_of_items_does_not_matter_and_identity_is_best(function) -> None:
    forward = function(PREDICTIONS, REFERENCES).corpus
    backward = function(PREDICTIONS[::-1], REFERENCES[::-1]).corpus
    assert forward == pytest.approx(backward)
    texts = ["def f(x):\n    return x + 1", "the cat sat on the mat there"]
    for name, value in function(texts, texts).corpus.items():
        assert value == pytest.approx(100 if name in ("bleu", "chrf") else 1)
