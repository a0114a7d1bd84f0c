"""Key-token rules and role weights: which tokens, and how much."""

from __future__ import annotations

import random
from typing import Any

import pytest
from templating.making import SENTENCEPIECE, decoded, make_tokenizer

from ift_lightning.errors import UserError
from ift_lightning.templating.tokenization import SegmentTokenizer, SegmentTokens
from ift_lightning.templating.weights import KeyTokens, LossWeights
from ift_lightning.types import Role, Segment


def by_letters(text: str, role: Role = Role.ANSWER, width: int = 1) -> SegmentTokens:
    """Return tokens of ``width`` characters each."""
    offsets = [(at, min(at + width, len(text))) for at in range(0, len(text), width)]
    return SegmentTokens(Segment(text, role), list(range(len(offsets))), offsets)


def weighed(text: str, *rules: KeyTokens, role: Role = Role.ANSWER, width: int = 1) -> list[float]:
    return LossWeights(key_tokens=rules).of(by_letters(text, role, width))


def test_a_literal_is_found_everywhere_and_read_as_it_stands() -> None:
    assert weighed("a.b.ab", KeyTokens(3.0, literal="a.")) == [3, 3, 1, 1, 1, 1]
    assert weighed("aXb a.b", KeyTokens(3.0, literal="a.b")) == [1, 1, 1, 1, 3, 3, 3]
    assert weighed("正确和正确", KeyTokens(2.0, literal="正确")) == [2, 2, 1, 2, 2]


def test_a_regex_weighs_its_match_or_its_first_group() -> None:
    assert weighed("x=12;", KeyTokens(2.0, regex=r"\d+")) == [1, 1, 2, 2, 1]
    assert weighed("判断:正确", KeyTokens(2.0, regex=r"判断:(正确|错误)")) == [1, 1, 1, 2, 2]
    assert weighed("k=v", KeyTokens(2.0, regex=r"(k)=(v)")) == [2, 1, 1]
    assert weighed("k=v", KeyTokens(2.0, regex=r"(?:k)=v")) == [2, 2, 2]
    # A group that took no part, and matches of nothing, weigh nothing.
    assert weighed("ab", KeyTokens(2.0, regex=r"(x)?ab")) == [1, 1]
    assert weighed("ab", KeyTokens(2.0, regex=r"x*")) == [1, 1]
    assert weighed("aaa", KeyTokens(2.0, regex=r"(?=(aa))")) == [2, 2, 2]


def test_only_the_named_roles_are_searched() -> None:
    rule = KeyTokens(2.0, literal="a", roles=("reasoning", "end"))
    assert weighed("a", rule, role=Role.ANSWER) == [1]
    assert weighed("a", rule, role=Role.REASONING) == [2]
    assert weighed("a", rule, role=Role.END) == [2]
    # A factor on a masked role changes nothing.
    assert weighed("a", KeyTokens(9.0, literal="a", roles=("prompt",)), role=Role.PROMPT) == [0]
    loss = LossWeights({"prompt": 0.5}, [KeyTokens(4.0, literal="a", roles=("prompt",))])
    assert loss.of(by_letters("ab", Role.PROMPT)) == [2.0, 0.5]


def test_rules_multiply_and_one_rule_counts_once() -> None:
    rules = KeyTokens(2.0, literal="ab"), KeyTokens(3.0, regex="b.")
    assert weighed("abc", *rules) == [2, 6, 3]
    assert weighed("abab", KeyTokens(2.0, literal="ab"), width=4) == [2]
    assert weighed("abab", KeyTokens(2.0, regex="a|b"), width=2) == [2, 2]
    assert weighed("aaa", KeyTokens(2.0, regex=r"(?=(aa))"), width=3) == [2]
    loss = LossWeights({"answer": 0.5}, rules)
    assert loss.of(by_letters("abc")) == [1, 3, 1.5]


def test_a_weight_of_zero_masks() -> None:
    assert weighed("abc", KeyTokens(0.0, literal="b")) == [1, 0, 1]


def test_a_token_that_a_match_only_touches_weighs_more() -> None:
    rule = KeyTokens(2.0, literal="cd")
    assert weighed("abcdef", rule, width=2) == [1, 2, 1]
    assert weighed("abcdef", rule, width=3) == [2, 2]
    assert weighed("abcdef", rule, width=4) == [2, 1]
    # Half-open: a neighbour that ends where the match begins does not touch it.
    assert weighed("abcd", KeyTokens(2.0, literal="b"), width=1) == [1, 2, 1, 1]


def test_tokens_without_characters_and_shared_characters() -> None:
    tokens = SegmentTokens(
        Segment("é!", Role.ANSWER), [0, 1, 2, 3], [(0, 0), (0, 1), (0, 1), (1, 2)]
    )
    loss = LossWeights(key_tokens=[KeyTokens(2.0, literal="é")])
    assert loss.of(tokens) == [1, 2, 2, 1]


def test_the_merge_of_spans_agrees_with_the_definition() -> None:
    draw = random.Random(0)
    for _ in range(300):
        text = "".join(draw.choice("ab") for _ in range(draw.randrange(1, 20)))
        offsets, at = [], 0
        while at < len(text):
            stop = min(at + draw.randrange(0, 4), len(text))
            offsets.append((at, stop))
            at = stop
        rule = KeyTokens(2.0, regex=draw.choice(["ab", "(?=(ab?a))", "b+", "a(b)", "(?=(a+b))"]))
        tokens = SegmentTokens(Segment(text, Role.ANSWER), [0] * len(offsets), offsets)
        spans = rule.spans(text)
        expected = [
            2.0 if any(a < stop and b > start and a < b for start, stop in spans) else 1.0
            for a, b in offsets
        ]
        assert LossWeights(key_tokens=[rule]).of(tokens) == expected


@pytest.mark.parametrize("kind", ["byte-level", *SENTENCEPIECE])
def test_on_real_tokens(kind: str) -> None:
    tokenizer = make_tokenizer(kind)
    text = "判断:正确\n\n原因：é 🙂 return item"
    for key in ("正确", "return", "🙂", "é", "判断:"):
        loss = LossWeights(key_tokens=[KeyTokens(5.0, literal=key)])
        _, tokens = SegmentTokenizer(tokenizer).encode(
            [[Segment("x", Role.PROMPT), Segment(text, Role.ANSWER)]]
        )[0]
        start = text.index(key)
        stop = start + len(key)
        touched = [a < stop and b > start for a, b in tokens.offsets]
        assert loss.of(tokens) == [5.0 if touch else 1.0 for touch in touched]
        ids = [token for token, touch in zip(tokens.input_ids, touched, strict=True) if touch]
        assert key in decoded(tokenizer, ids)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"weight": -1.0, "literal": "a"}, "weight -1.0 must be a finite number"),
        ({"weight": float("nan"), "literal": "a"}, "weight nan must be a finite number"),
        ({"weight": float("inf"), "literal": "a"}, "weight inf must be a finite number"),
        ({"weight": 2.0}, "exactly one of literal and regex"),
        ({"weight": 2.0, "literal": "a", "regex": "a"}, "exactly one of literal and regex"),
        ({"weight": 2.0, "literal": ""}, "exactly one of literal and regex"),
        ({"weight": 2.0, "regex": "("}, r"regex '\('"),
        ({"weight": 2.0, "literal": "a", "roles": ["anser"]}, "no role 'anser'.*'answer'"),
    ],
)
def test_a_bad_rule_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        KeyTokens(**arguments)


@pytest.mark.parametrize(
    ("roles", "message"),
    [
        ({"answer": -0.5}, r"role_weights.answer=-0.5 must be"),
        ({"end": float("nan")}, r"role_weights.end=nan must be"),
        ({"prompt": float("inf")}, r"role_weights.prompt=inf must be"),
        ({"anser": 1.0}, "no role 'anser'.*'answer'"),
        ({"reasoning": 0, "answer": 0, "end": 0}, "every weight is 0"),
    ],
)
def test_bad_role_weights_are_refused(roles: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        LossWeights(roles)


def test_default_weights() -> None:
    assert {role.value: weight for role, weight in LossWeights().roles.items()} == {
        "prompt": 0.0,
        "reasoning": 1.0,
        "answer": 1.0,
        "end": 1.0,
    }
