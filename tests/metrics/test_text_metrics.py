"""BLEU, chrF, ROUGE and exact match against their reference implementations."""

from __future__ import annotations

import subprocess
import sys

import pytest
import sacrebleu
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer, _lcs_table

from ift_lightning.errors import UserError
from ift_lightning.metrics import METRICS, bleu, chrf, exact_match, get_metric, rouge
from ift_lightning.metrics.text import common_subsequence_length
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


_TOKENS = st.lists(st.sampled_from("abcd"), max_size=40)


@given(_TOKENS, _TOKENS)
def test_common_subsequence_is_as_long_as_in_the_package(first, second) -> None:
    expected = _lcs_table(first, second)[-1][-1]
    assert common_subsequence_length(first, second) == expected
    assert common_subsequence_length(second, first) == expected


class _OurTokens:
    @staticmethod
    def tokenize(text: str) -> list[str]:
        return code_and_cjk_tokens(text)


_TEXTS = st.text(alphabet="ab x1+-\n缺陷", max_size=30)


@settings(max_examples=60, deadline=None)
@given(_TEXTS, _TEXTS)
def test_rouge_is_rouge_score_over_either_tokens(prediction: str, reference: str) -> None:
    names = ["rouge1", "rouge2", "rougeL"]
    ours = rouge([prediction], [reference]).corpus
    for suffix, tokenizer in (("", _OurTokens()), ("_upstream", None)):
        theirs = RougeScorer(names, tokenizer=tokenizer).score(reference, prediction)
        for name in names:
            assert ours[f"{name}{suffix}"] == theirs[name].fmeasure


def test_rouge_of_long_texts_needs_no_table() -> None:
    # 16 000 tokens each: a table of 2.6e8 cells, 2 GB.
    text = "a b c d " * 4_000
    assert rouge([text + "x"], [text]).corpus["rougeL"] == pytest.approx(32_000 / 32_001)


@pytest.mark.parametrize("function", [bleu, chrf, rouge, exact_match])
def test_one_changed_token_lowers_every_code_aware_score(function) -> None:
    program = "def f(x, y):\n    total = x + y\n    return total * 2"
    for old, new in (("+", "-"), ("2", "3"), ("return", "yield")):
        for name, value in function([program.replace(old, new)], [program]).corpus.items():
            if not (name.endswith("_upstream") and old == "+"):
                assert value < function([program], [program]).corpus[name], (name, old)


@pytest.mark.parametrize("function", [bleu, chrf, rouge, exact_match])
def test_empty_and_chinese_answers_have_a_value_for_each_item(function) -> None:
    result = function(["", "函数有缺陷", "x"], ["x = 1", "函数有缺陷", ""])
    assert set(result.per_item) == set(result.corpus)
    for values in result.per_item.values():
        assert len(values) == 3 and values[0] == values[2] == 0


def test_corpus_bleu_needs_four_tokens_and_sentence_bleu_does_not() -> None:
    result = bleu(["return 1"], ["return 1"])
    assert result.corpus["bleu"] == 0
    assert result.per_item["bleu"] == [pytest.approx(100)]


def test_reindented_code_is_the_same_to_bleu() -> None:
    code = "for a in b:\n    c()\nd()"
    assert bleu([code.replace("\nd()", "\n    d()")], [code]).corpus["bleu"] == pytest.approx(100)
