"""Lengths, special tokens in rows, reasoning levels, refusals, and batches."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from templating.making import (
    BYTE_LEVEL,
    CHATML,
    SENTENCEPIECE,
    byte_level,
    chat,
    decoded,
    make_tokenizer,
    sentencepiece_like,
    template_of,
    triple,
)
from tokenizers import AddedToken

from ift_lightning.errors import BadRowError, UserError
from ift_lightning.templating.examples import ExampleBuilder
from ift_lightning.templating.template import Template
from ift_lightning.templating.weights import KeyTokens, LossWeights
from ift_lightning.types import InstructionRecord, TokenizedExample


def builder(name: str = "alpaca", kind: str = BYTE_LEVEL, **options: Any) -> ExampleBuilder:
    return ExampleBuilder(template_of(name), make_tokenizer(kind), **options)


def build(made: ExampleBuilder, record: InstructionRecord) -> TokenizedExample:
    (example,) = made.build([record])
    if isinstance(example, BadRowError):
        raise example
    return example


def refusal(made: ExampleBuilder, record: InstructionRecord) -> BadRowError:
    (result,) = made.build([record])
    assert isinstance(result, BadRowError), result
    return result


# --- max_seq_length -----------------------------------------------------------------------------


def test_a_row_may_be_as_long_as_the_limit_and_no_longer() -> None:
    full = build(builder(max_seq_length=10_000), triple())
    length = len(full.input_ids)
    assert build(builder(max_seq_length=length), triple()) == full
    error = refusal(builder(max_seq_length=length - 1), triple())
    assert f"the row has {length} tokens" in str(error)
    assert f"max_seq_length is {length - 1}" in str(error)
    assert "data.overflow=cut_prompt" in str(error) and "data.bad_rows=skip" in str(error)


@pytest.mark.parametrize("name", ["alpaca", "chatml", "chat", "llama2_chat"])
@pytest.mark.parametrize("kind", [BYTE_LEVEL, *SENTENCEPIECE])
def test_cutting_takes_the_prompt_from_the_left_and_nothing_else(kind: str, name: str) -> None:
    full = build(builder(name, kind, max_seq_length=10_000), triple())
    bos_id = make_tokenizer(kind).bos_token_id
    keep = 1 if full.input_ids[0] == bos_id else 0
    assert keep == (name == "llama2_chat" or (name == "alpaca" and kind != BYTE_LEVEL))
    num_trained = len(full.input_ids) - full.num_prompt_tokens
    shortest = num_trained + keep + 1
    for limit in range(shortest, len(full.input_ids) + 1):
        cut = build(builder(name, kind, max_seq_length=limit, cut_prompt=True), triple())
        num_cut = len(full.input_ids) - limit
        assert cut.input_ids == full.input_ids[:keep] + full.input_ids[keep + num_cut :]
        assert cut.loss_weights == full.loss_weights[:keep] + full.loss_weights[keep + num_cut :]
        assert len(cut.input_ids) == limit
        assert cut.num_cut_tokens == num_cut
        assert cut.num_prompt_tokens == full.num_prompt_tokens - num_cut
        assert cut.num_target_tokens == full.num_target_tokens
        assert cut.input_ids[-num_trained:] == full.input_ids[-num_trained:]
    error = refusal(builder(name, kind, max_seq_length=shortest - 1, cut_prompt=True), triple())
    assert f"{num_trained} tokens from its first answer on" in str(error)
    assert "never cut" in str(error)


def test_a_chat_loses_nothing_behind_its_first_prompt() -> None:
    record = chat("A long question to begin with?", "A.", "b?", "B.")
    full = build(builder("chatml", max_seq_length=10_000), record)
    first = next(index for index, weight in enumerate(full.loss_weights) if weight)
    assert first < full.num_prompt_tokens  # the last answer's prompt holds the first answer
    limit = len(full.input_ids) - first + 1
    cut = build(builder("chatml", max_seq_length=limit, cut_prompt=True), record)
    assert cut.input_ids == full.input_ids[first - 1 :]
    assert cut.num_prompt_tokens == full.num_prompt_tokens - cut.num_cut_tokens
    refusal(builder("chatml", max_seq_length=limit - 1, cut_prompt=True), record)
    # An earlier answer that is not trained on is prompt, and may go.
    options: dict[str, Any] = {"cut_prompt": True, "last_turn_only": True}
    last = build(builder("chatml", max_seq_length=limit - 1, **options), record)
    assert last.input_ids == full.input_ids[first:]


# --- weights of roles ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [BYTE_LEVEL, *SENTENCEPIECE])
def test_a_weighted_prompt_never_weighs_the_first_token(kind: str) -> None:
    weights = LossWeights({"prompt": 0.5, "answer": 2.0, "end": 3.0})
    full = build(builder(kind=kind, weights=weights, max_seq_length=10_000), triple())
    prompt, rest = full.num_prompt_tokens, full.loss_weights[full.num_prompt_tokens :]
    # BOS, where there is one, is nobody's text either.
    assert full.loss_weights[:prompt] == [0.0] + [0.5] * (prompt - 1)
    assert rest == [2.0] * (len(rest) - 1) + [3.0]
    for limit in range(len(rest) + 2, len(full.input_ids)):
        options: dict[str, Any] = {"max_seq_length": limit, "cut_prompt": True}
        cut = build(builder(kind=kind, weights=weights, **options), triple())
        assert cut.loss_weights[0] == 0.0
        assert cut.loss_weights[1:] == full.loss_weights[1 - limit :]


def test_reasoning_and_end_have_weights_of_their_own() -> None:
    weights = LossWeights({"reasoning": 0.25, "end": 0.0})
    made = builder(weights=weights, reasoning_level="simple")
    example = build(made, triple())
    by_weight: dict[float, list[int]] = {}
    for token, weight in zip(example.input_ids, example.loss_weights, strict=True):
        by_weight.setdefault(weight, []).append(token)
    assert decoded(made.tokenizer, by_weight[0.25]) == "<think>\nsum\n</think>\n"
    assert decoded(made.tokenizer, by_weight[1.0]) == "return 3"
    assert not example.end_is_supervised
    assert build(builder(), triple()).end_is_supervised


def test_a_row_of_which_nothing_is_trained_is_refused() -> None:
    weights = LossWeights({"answer": 0.0, "end": 0.0})
    assert "every token weighs 0" in str(refusal(builder(weights=weights), triple()))
    weights = LossWeights(key_tokens=[KeyTokens(0.0, regex=r"(?s).+", roles=("answer", "end"))])
    assert "every token weighs 0" in str(refusal(builder(weights=weights), triple()))


def test_key_tokens_of_the_end_count_for_its_supervision() -> None:
    weights = LossWeights(key_tokens=[KeyTokens(0.0, literal="<|eos|>", roles=("end",))])
    assert not build(builder(weights=weights), triple()).end_is_supervised


# --- what a row must have -----------------------------------------------------------------------


@pytest.mark.parametrize("empty", ["", " ", "\n\t "])
def test_an_empty_answer_is_refused(empty: str) -> None:
    for name in ("alpaca", "chatml", "llama2_chat", "chat"):
        error = refusal(builder(name), triple(output=empty))
        assert "the answer is empty" in str(error) and error.field == "output"
    for record in (chat("a?", empty, "b?", "B."), chat("a?", "A.", "b?", empty)):
        error = refusal(builder("chatml"), record)
        assert "is empty" in str(error) and error.field == "messages"
    # It is not needed to ask.
    assert builder().prompt_ids(triple(output=empty)) == builder().prompt_ids(triple())


def test_an_empty_prompt_is_refused_where_nothing_stands_before_it() -> None:
    assert "the prompt has no tokens" in str(refusal(builder("completion"), triple("", "", "x")))
    example = build(builder("completion", "legacy-llama"), triple("", "", "x"))
    assert example.num_prompt_tokens == 1


def test_a_chat_of_several_turns_needs_a_template_for_them() -> None:
    error = refusal(builder("alpaca"), chat("a?", "A.", "b?", "B."))
    assert "template 'alpaca' renders one exchange and this chat has 2" in str(error)
    assert "template=chatml" in str(error)


def test_a_system_text_is_not_dropped() -> None:
    record = chat("a?", "A.", system="Be brief.")
    error = refusal(builder("alpaca"), record)
    assert "no place for the system text" in str(error) and error.field == "messages"
    with pytest.raises(BadRowError, match="no place for the system text"):
        builder("alpaca").prompt_ids(record)
    own = Template(name="own", prompt="{{ system }}: {{ instruction }}\n")
    ExampleBuilder(own, byte_level()).build([record])
    example = build(ExampleBuilder(own, byte_level()), record)
    assert decoded(byte_level(), example.input_ids) == "Be brief.: a?\nA.<|eos|>"
    assert isinstance(builder("alpaca").build([chat("a?", "A.")])[0], TokenizedExample)


@pytest.mark.parametrize("name", ["chatml", "chat", "llama2_chat"])
def test_the_templates_own_system_text_gives_way_to_the_rows(name: str) -> None:
    template = dataclasses.replace(template_of(name), system="Default.")
    made = ExampleBuilder(template, byte_level())
    for record, found in (
        (triple(), "Default."),
        (chat("a?", "A."), "Default."),
        (chat("a?", "A.", system="Own."), "Own."),
    ):
        text = decoded(made.tokenizer, build(made, record).input_ids)
        assert found in text
        assert text.count("Default.") + text.count("Own.") == 1


@pytest.mark.parametrize(
    ("field", "text", "message"),
    [
        ("prompt", "{{ instructoin }}", "template.prompt: 'instructoin' is undefined"),
        ("answer", "{{ output.x.y }}", "template.answer: "),
        ("end", "{% if %}", "template.end is not valid Jinja"),
        ("prompt", "{{ output.__class__.__mro__ }}", "template.prompt: "),
    ],
)
def test_a_faulty_template_is_named(field: str, text: str, message: str) -> None:
    template = dataclasses.replace(template_of("alpaca"), **{field: text})
    with pytest.raises(UserError, match="template 'alpaca'") as caught:
        build(ExampleBuilder(template, byte_level()), triple())
    assert message in str(caught.value)
    assert not isinstance(caught.value, BadRowError)


# --- special tokens in rows ---------------------------------------------------------------------


@pytest.mark.parametrize("token", ["<|eos|>", "<|pad|>", "<|im_end|>"])
@pytest.mark.parametrize(
    ("place", "field"),
    [
        ("instruction", "instruction"),
        ("input", "input"),
        ("output", "output"),
        ("reasoning", "reasoning.simple"),
    ],
)
def test_a_special_token_in_a_row_is_refused(place: str, field: str, token: str) -> None:
    text = f"a {token} b"
    change: Any = {"simple": text} if place == "reasoning" else text
    record = dataclasses.replace(triple(), **{place: change})
    error = refusal(builder(reasoning_level="simple"), record)
    assert repr(token) in str(error) and error.field == field
    assert "data.allow_special_tokens=true" in str(error)
    allowed = build(builder(reasoning_level="simple", allow_special_tokens=True), record)
    assert byte_level().convert_tokens_to_ids(token) in allowed.input_ids
    # Reasoning that is not used, and an answer that is not asked with, do no harm.
    if place == "reasoning":
        build(builder(), record)
    if place in ("output", "reasoning"):
        builder(reasoning_level="simple").prompt_ids(record)
    else:
        with pytest.raises(BadRowError):
            builder().prompt_ids(record)


def test_a_special_token_in_a_chat_is_refused() -> None:
    for turn in range(4):
        contents = ["a?", "A.", "b?", "B."]
        contents[turn] += "<|im_end|>"
        error = refusal(builder("chatml"), chat(*contents, system="S"))
        assert error.field == f"messages[{turn + 1}].content"
    assert refusal(builder("chatml"), chat("a?", "A.", system="<|eos|>")).field == (
        "messages[0].content"
    )


def test_control_tokens_that_have_no_name_are_special_too() -> None:
    from conftest import train_tokenizer

    tokenizer = train_tokenizer()
    tokenizer.add_tokens([AddedToken("<|header|>", special=True)])
    tokenizer.add_tokens([AddedToken("<tool>", special=False)])
    assert "<|header|>" not in tokenizer.all_special_tokens
    made = ExampleBuilder(template_of("alpaca"), tokenizer)
    assert "'<|header|>'" in str(refusal(made, triple(output="<|header|>")))
    example = build(made, triple(output="a <tool> b"))
    assert tokenizer.convert_tokens_to_ids("<tool>") in example.input_ids


def test_the_longest_special_token_is_named() -> None:
    from conftest import train_tokenizer

    tokenizer = train_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<s", "<s>"]})
    made = ExampleBuilder(template_of("alpaca"), tokenizer)
    assert "'<s>'" in str(refusal(made, triple(output="a<s>")))


@pytest.mark.parametrize("kind", SENTENCEPIECE)
def test_an_allowed_special_token_still_has_to_decode(kind: str) -> None:
    """A blank that the tokenizer puts behind a special token would be taught silently."""
    made = builder(kind=kind, allow_special_tokens=True)
    (result,) = made.build([triple(output="a</s>b")])
    if kind == "metaspace-first":
        assert isinstance(result, TokenizedExample)
    else:
        assert isinstance(result, BadRowError) and "'a</s> b'" in str(result)


# --- reasoning ----------------------------------------------------------------------------------


def test_a_missing_reasoning_level_is_named() -> None:
    made = builder(reasoning_level="complex")
    error = refusal(made, triple())
    assert "no reasoning at level 'complex'; the row has ['simple']" in str(error)
    assert "cot_level=none" in str(error) and "rows that have it" in str(error)
    assert error.field == "reasoning.complex"
    none = dataclasses.replace(triple(), reasoning={})
    assert "the row has none" in str(refusal(made, none))
    blank = dataclasses.replace(triple(), reasoning={"complex": " \n"})
    assert refusal(made, blank).field == "reasoning.complex"


def test_reasoning_stands_before_the_last_answer() -> None:
    made = builder("chatml", reasoning_level="simple")
    example = build(made, chat("a?", "A.", "b?", "B."))
    assert decoded(made.tokenizer, example.input_ids).endswith(
        "A.<|im_end|>\n<|im_start|>user\nb?<|im_end|>\n<|im_start|>assistant\n"
        "<think>\nstep by step\n</think>\nB.<|im_end|>"
    )
    record = triple()
    assert made.prompt_ids(record) == builder("chatml").prompt_ids(record)


# --- turns and batches --------------------------------------------------------------------------


def test_last_turn_only_changes_weights_and_no_ids() -> None:
    record = chat("a?", "A.", "b?", "B.")
    for name in ("chatml", "llama2_chat"):
        every = build(builder(name), record)
        last = build(builder(name, last_turn_only=True), record)
        assert last.input_ids == every.input_ids
        assert last.num_prompt_tokens == every.num_prompt_tokens
        assert last.loss_weights[: last.num_prompt_tokens] == [0.0] * last.num_prompt_tokens
        assert all(last.loss_weights[last.num_prompt_tokens :])
        assert every.num_target_tokens > last.num_target_tokens


@pytest.mark.parametrize("kind", [BYTE_LEVEL, *SENTENCEPIECE])
@pytest.mark.parametrize("name", ["alpaca", "chatml", "chat"])
def test_a_batch_is_its_rows_one_by_one(name: str, kind: str) -> None:
    records = [
        triple(),
        triple(output=""),
        chat("a?", "A.", "b?", "B."),
        triple("Long. " * 40),
        triple("x", "", "y</s><|eos|>"),
        chat("写?", "é。\n", system="S"),
        triple("x", "", "\n  y"),
    ]
    records = [dataclasses.replace(item, id=str(i)) for i, item in enumerate(records)]
    weights = LossWeights(key_tokens=[KeyTokens(2.0, literal="A")])
    made = builder(name, kind, max_seq_length=150, cut_prompt=True, weights=weights)

    def comparable(result: Any) -> Any:
        return (str(result), result.field) if isinstance(result, BadRowError) else result

    together = [comparable(result) for result in made.build(records)]
    assert together == [comparable(made.build([record])[0]) for record in records]
    assert [item.id for item in together if isinstance(item, TokenizedExample)]
    assert {type(item) for item in together} == {tuple, TokenizedExample}
    assert made.build([]) == []


def test_exact_ids_of_alpaca() -> None:
    made = builder()
    example = build(made, triple("Add.", "", "a + b"))
    encode = made.tokenizer.encode
    prompt = encode(
        "Below is an instruction that describes a task. Write a response that appropriately "
        "completes the request.\n\n### Instruction:\nAdd.\n\n### Response:\n"
    )
    answer = encode("a + b")
    assert example.input_ids == [*prompt, *answer, made.tokenizer.eos_token_id]
    assert example.loss_weights == [0.0] * len(prompt) + [1.0] * (len(answer) + 1)
    assert example.num_prompt_tokens == len(prompt)
    assert example.num_target_tokens == len(answer) + 1


def test_exact_ids_of_llama2_chat_on_a_llama_tokenizer() -> None:
    tokenizer = sentencepiece_like("legacy-llama", chat_template=CHATML)
    example = build(ExampleBuilder(template_of("llama2_chat"), tokenizer), chat("a", "b"))
    assert tokenizer.convert_ids_to_tokens(example.input_ids) == [
        *("<s>", "▁", "<0x5B>", "I", "<0x4E>", "<0x53>", "<0x54>", "<0x5D>"),
        *("▁a", "▁", "<0x5B>", "<0x2F>", "I", "<0x4E>", "<0x53>", "<0x54>", "<0x5D>"),
        *("▁b", "▁", "</s>"),
    ]
    assert example.num_prompt_tokens == 17


def test_target_tokens_are_counted_by_role() -> None:
    record = InstructionRecord("r", "Add.", "", "a + b", reasoning={"simple": "Sum them."})
    made = builder(reasoning_level="simple")
    example = build(made, record)
    encode = made.tokenizer.encode
    expected = {
        "reasoning": len(encode("<think>\nSum them.\n</think>\n")),
        "answer": len(encode("a + b")),
        "end": 1,
    }
    assert example.target_tokens_by_role == expected
    assert example.num_target_tokens == sum(expected.values())
    silent = builder(reasoning_level="simple", weights=LossWeights({"reasoning": 0.0}))
    del expected["reasoning"]
    assert build(silent, record).target_tokens_by_role == expected
