"""The tokenizer's own chat template: exact masks, or a refusal that says why."""

from __future__ import annotations

from typing import Any

import pytest
from templating.making import CHATML, byte_level, chat, decoded, template_of, triple

from ift_lightning.errors import BadRowError, UserError
from ift_lightning.templating.examples import ExampleBuilder
from ift_lightning.templating.weights import LossWeights
from ift_lightning.types import InstructionRecord, TokenizedExample

LLAMA3 = (
    "{{ bos_token }}{% for message in messages %}<|start_header_id|>{{ message['role'] }}"
    "<|end_header_id|>\n\n{{ message['content'] | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
LLAMA2 = (
    "{% for message in messages %}{% if message.role == 'user' %}"
    "{{ bos_token + '[INST] ' + message.content.strip() + ' [/INST]' }}"
    "{% elif message.role == 'system' %}{{ raise_exception('no system turns') }}"
    "{% else %}{{ ' ' + message.content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
)
# Its generation prompt lacks the newline that stands before an answer.
DEEPSEEK_CODER = (
    "{{ bos_token }}{% for message in messages %}{% if message.role == 'user' %}### Instruction:\n"
    "{{ message.content }}\n{% else %}### Response:\n{{ message.content }}\n<|EOT|>\n{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}### Response:{% endif %}"
)
# Thinking is written into the last turn, and cut out of the earlier ones.
QWEN3 = """
{%- for message in messages %}
    {%- if message.role != 'assistant' %}
        {{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>' + '\n' }}
    {%- else %}
        {%- set content = message.content %}
        {%- set thought = '' %}
        {%- if '</think>' in content %}
            {%- set thought = content.split('</think>')[0].rstrip('\n').split('<think>')[-1] %}
            {%- set content = content.split('</think>')[-1].lstrip('\n') %}
        {%- endif %}
        {{- '<|im_start|>assistant\n' }}
        {%- if loop.last %}
            {{- '<think>\n' + thought.strip('\n') + '\n</think>\n\n' + content.lstrip('\n') }}
        {%- else %}
            {{- content }}
        {%- endif %}
        {{- '<|im_end|>\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
{%- endif %}
"""


def marked(before: str, inside: str, after: str) -> str:
    """Return ChatML with ``{% generation %}`` around a part of the assistant's turn."""
    return (
        "{% for message in messages %}{% if message.role == 'assistant' %}"
        + before
        + "{% generation %}"
        + inside
        + "{% endgeneration %}"
        + after
        + "{% else %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endif %}"
        "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )


# Chat templates are rendered with `trim_blocks`: a newline right behind a block tag is eaten.
HEADER, CONTENT, END = "{{ '<|im_start|>assistant\n' }}", "{{ message.content }}", "<|im_end|>"
NEWLINE = "{{ '\n' }}"
MARKED = {
    "the answer only": marked(HEADER, CONTENT, END + NEWLINE),
    "answer and end": marked(HEADER, CONTENT + END, NEWLINE),
    "answer, end and newline": marked(HEADER, CONTENT + END + NEWLINE, ""),
    "header, answer and end": marked("", HEADER + CONTENT + END, NEWLINE),
    "with control of white space": marked(HEADER + "\n", "\n" + CONTENT + END, NEWLINE).replace(
        "{% generation %}", "{%- generation -%}"
    ),
}


def builder(chat_template: str | None, **options: Any) -> ExampleBuilder:
    return ExampleBuilder(template_of("chat"), byte_level(chat_template), **options)


def build(made: ExampleBuilder, record: InstructionRecord) -> TokenizedExample:
    (example,) = made.build([record])
    if isinstance(example, BadRowError):
        raise example
    prompt_ids = made.prompt_ids(record)
    assert example.input_ids[: len(prompt_ids)] == prompt_ids
    assert example.num_prompt_tokens == len(prompt_ids)
    return example


def supervised(made: ExampleBuilder, example: TokenizedExample) -> list[str]:
    """Return the texts of the runs of supervised tokens."""
    runs: list[list[int]] = [[]]
    for token, weight in zip(example.input_ids, example.loss_weights, strict=True):
        if weight:
            runs[-1].append(token)
        elif runs[-1]:
            runs.append([])
    return [decoded(made.tokenizer, run) for run in runs if run]


def text(made: ExampleBuilder, example: TokenizedExample) -> str:
    return decoded(made.tokenizer, example.input_ids)


TWO_TURNS = chat("Ask?", "Tell.", "More?", "Enough.", system="Be brief.")


@pytest.mark.parametrize(
    ("chat_template", "runs"),
    [
        (CHATML, ["Tell.<|im_end|>", "Enough.<|im_end|>"]),
        (LLAMA3, ["Tell.<|eot_id|>", "Enough.<|eot_id|>"]),
        (DEEPSEEK_CODER, ["\nTell.\n<|EOT|>", "\nEnough.\n<|EOT|>"]),
        *((mark, ["Tell.<|im_end|>", "Enough.<|im_end|>"]) for mark in MARKED.values()),
    ],
    ids=["chatml", "llama3", "deepseek", *MARKED],
)
def test_every_turn_or_the_last_one_is_trained(chat_template: str, runs: list[str]) -> None:
    made = builder(chat_template)
    example = build(made, TWO_TURNS)
    assert supervised(made, example) == runs
    assert example.end_is_supervised
    made_last = builder(chat_template, last_turn_only=True)
    last = build(made_last, TWO_TURNS)
    assert supervised(made_last, last) == runs[-1:]
    assert text(made_last, last) == text(made, example)
    # The whole of it is what the template writes, but for white space behind the last turn.
    messages = [{"role": m.role, "content": m.content} for m in TWO_TURNS.messages]
    rendered = made.tokenizer.apply_chat_template(messages, tokenize=False)
    assert text(made, example) == rendered.rstrip()


def test_exact_ids_of_a_turn() -> None:
    made = builder(CHATML)
    example = build(made, triple("Add.", "", "a + b"))
    encode = made.tokenizer.convert_tokens_to_ids
    start, end = encode("<|im_start|>"), encode("<|im_end|>")
    pieces = [made.tokenizer.encode(part) for part in ("user\nAdd.", "\n", "assistant\n", "a + b")]
    user, newline, header, answer = pieces
    prompt = [start, *user, end, *newline, start, *header]
    assert example.input_ids == [*prompt, *answer, end]
    assert example.loss_weights == [0.0] * len(prompt) + [1.0] * (len(answer) + 1)


def test_marks_change_nothing_about_the_ids() -> None:
    plain = build(builder(CHATML), TWO_TURNS)
    for chat_template in MARKED.values():
        assert build(builder(chat_template), TWO_TURNS) == plain


def test_own_chatml_is_the_same_as_a_native_one() -> None:
    native = build(builder(CHATML), TWO_TURNS)
    own = ExampleBuilder(template_of("chatml"), byte_level())
    assert build(own, TWO_TURNS) == native


@pytest.mark.parametrize("answer", ["a", "assistant", "\n", "im", "im_end", "<", "|", "think", "s"])
@pytest.mark.parametrize("chat_template", [CHATML, *MARKED.values(), QWEN3, DEEPSEEK_CODER])
def test_an_answer_that_the_frame_also_contains(answer: str, chat_template: str) -> None:
    made = builder(chat_template)
    if not answer.strip():
        pytest.raises(BadRowError, build, made, triple(output=answer))
        return
    example = build(made, triple(output=answer))
    (run,) = supervised(made, example)
    head = {QWEN3: "<think>\n\n</think>\n\n", DEEPSEEK_CODER: "\n"}.get(chat_template, "")
    tail = "\n<|EOT|>" if chat_template == DEEPSEEK_CODER else "<|im_end|>"
    assert run == head + answer + tail
    # Which of it is the answer: the reasoning's weight is taken away.
    made = builder(chat_template, weights=LossWeights({"reasoning": 0.0, "end": 0.0}))
    assert supervised(made, build(made, triple(output=answer))) == [answer]


def test_short_answers_of_earlier_turns() -> None:
    for chat_template in (CHATML, LLAMA3, *MARKED.values()):
        made = builder(chat_template, weights=LossWeights({"end": 0.0}))
        example = build(made, chat("assistant", "assistant", "a", "a", "|", "user"))
        assert supervised(made, example) == ["assistant", "a", "user"]


def test_template_with_empty_thinking_for_the_last_turn() -> None:
    made = builder(QWEN3)
    example = build(made, triple("Add.", "", "a + b"))
    assert supervised(made, example) == ["<think>\n\n</think>\n\na + b<|im_end|>"]
    assert text(made, example).endswith("assistant\n<think>\n\n</think>\n\na + b<|im_end|>")
    # Earlier turns have no thinking, so that training on them would ask for something else.
    with pytest.raises(UserError, match="not a prefix.*data.train_on=last") as caught:
        build(made, TWO_TURNS)
    assert not isinstance(caught.value, BadRowError)
    made = builder(QWEN3, last_turn_only=True)
    assert supervised(made, build(made, TWO_TURNS)) == ["<think>\n\n</think>\n\nEnough.<|im_end|>"]
    thinking = chat("Ask?", "<think>\nhm\n</think>\nTell.", "More?", "Enough.")
    example = build(made, thinking)
    assert "hm" not in text(made, example)
    assert len(supervised(made, example)) == 1


@pytest.mark.parametrize(
    ("chat_template", "reasoning", "answer"),
    [
        (CHATML, "<think>\nsum\n</think>\n", "a + b"),
        (QWEN3, "<think>\nsum\n</think>\n\n", "a + b"),
        (LLAMA3, "<think>\nsum\n</think>\n", "a + b"),
    ],
)
def test_reasoning_has_a_role_of_its_own(chat_template: str, reasoning: str, answer: str) -> None:
    record = triple("Add.", "", answer)
    both = builder(chat_template, reasoning_level="simple")
    end = "<|eot_id|>" if chat_template == LLAMA3 else "<|im_end|>"
    assert supervised(both, build(both, record)) == [reasoning + answer + end]
    weights = LossWeights({"reasoning": 0.0, "end": 0.0})
    only_answer = builder(chat_template, reasoning_level="simple", weights=weights)
    assert supervised(only_answer, build(only_answer, record)) == [answer]
    weights = LossWeights({"answer": 0.0, "end": 0.0})
    only_reasoning = builder(chat_template, reasoning_level="simple", weights=weights)
    assert supervised(only_reasoning, build(only_reasoning, record)) == [reasoning]


def test_reasoning_that_the_template_throws_away_is_refused() -> None:
    made = builder(CHATML.replace("message.content", "message.content.split('</think>')[-1]"))
    with pytest.raises(BadRowError, match="changes the reasoning"):
        build(builder(made.tokenizer.chat_template, reasoning_level="simple"), triple())


def test_a_prompt_that_is_no_prefix_is_refused_by_name() -> None:
    chat_template = CHATML.replace(
        "{% if add_generation_prompt %}", "{% if add_generation_prompt %}!"
    )
    made = builder(chat_template)
    made.tokenizer.name_or_path = "some/model"
    with pytest.raises(UserError, match="chat template of 'some/model'.*not a prefix") as caught:
        build(made, triple())
    assert not isinstance(caught.value, BadRowError)  # no row would do, so none is skipped
    assert "'!<|im_start|>assistant\\n'" in str(caught.value)
    assert "template=chatml" in str(caught.value)


def test_a_prompt_that_differs_at_equal_length_is_refused() -> None:
    chat_template = (
        "{% for m in messages %}{{ m.role | title }}: {{ m.content }}<|im_end|>{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    with pytest.raises(UserError, match="not a prefix"):
        build(builder(chat_template), triple())
    same = builder(chat_template.replace(" | title", ""))
    assert supervised(same, build(same, triple())) == ["return 3<|im_end|>"]


def test_an_end_that_only_a_whole_chat_has() -> None:
    made = builder(CHATML.replace("{% endif %}", "{% else %}{{ eos_token }}{% endif %}"))
    example = build(made, triple())
    assert supervised(made, example) == ["return 3<|im_end|>\n<|eos|>"]
    # An earlier turn ends otherwise than it did when it was the last one.
    with pytest.raises(UserError, match="not a prefix.*goes on with 'eos"):
        build(made, TWO_TURNS)
    made = builder(made.tokenizer.chat_template, last_turn_only=True)
    assert supervised(made, build(made, TWO_TURNS)) == ["Enough.<|im_end|>\n<|eos|>"]


def test_text_that_a_template_adds_behind_some_answers_is_not_dropped() -> None:
    long = (
        "{% if messages[-1].role == 'assistant' and messages[-1].content | length > 20 %}"
        "[long]{% endif %}"
    )
    made = builder(CHATML + long)
    assert supervised(made, build(made, triple())) == ["return 3<|im_end|>"]
    with pytest.raises(BadRowError, match="changes the answer"):
        build(made, triple(output="return 3  # one and two"))


def test_a_template_that_trims_teaches_what_it_writes() -> None:
    made = builder(LLAMA3)
    example = build(made, chat("Ask?", "  Tell.\n", "More?", "\n\nx  \n y  \n"))
    assert supervised(made, example) == ["Tell.<|eot_id|>", "x  \n y<|eot_id|>"]
    assert text(made, example).startswith("<|bos|><|start_header_id|>")
    assert example.input_ids.count(made.tokenizer.bos_token_id) == 1


def test_llama2_form_keeps_its_blanks() -> None:
    made = builder(LLAMA2)
    example = build(made, chat("Ask?", "Tell.", "More?", "Enough."))
    assert supervised(made, example) == [" Tell. <|eos|>", " Enough. <|eos|>"]
    bos = made.tokenizer.bos_token_id
    assert example.input_ids.count(bos) == 2
    with pytest.raises(BadRowError, match="refuses this chat: no system turns"):
        build(made, TWO_TURNS)


@pytest.mark.parametrize(
    "change", ["| upper", "| replace('l', '1')", "| truncate(4)", "| tojson", "| escape", "[1:]"]
)
def test_a_template_that_changes_the_answer_is_refused(change: str) -> None:
    chat_template = CHATML.replace("message.content", f"(message.content) {change}")
    with pytest.raises((BadRowError, UserError), match="changes the answer|not a prefix"):
        build(builder(chat_template), triple(output="<Tell>\nall."))
    with pytest.raises((BadRowError, UserError), match="changes the answer|not a prefix"):
        build(builder(chat_template), chat("a?", "<Tell>\nall.", "b?", "<Tell>\nall."))


def test_an_answer_outside_the_marks_is_refused() -> None:
    only_last = (
        "{% for message in messages %}<|im_start|>{{ message.role }}\n"
        "{% if message.role == 'assistant' and loop.last %}{% generation %}{{ message.content }}"
        "<|im_end|>{% endgeneration %}{% else %}{{ message.content }}<|im_end|>{% endif %}\n"
        "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    with pytest.raises(UserError, match="outside its {% generation %} marks"):
        build(builder(only_last), TWO_TURNS)
    made = builder(only_last, last_turn_only=True)
    assert supervised(made, build(made, TWO_TURNS)) == ["Enough.<|im_end|>"]


def test_no_end_is_taught_where_the_template_writes_none() -> None:
    made = builder(
        "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    example = build(made, triple())
    assert supervised(made, example) == ["return 3"]
    assert not example.end_is_supervised


def test_no_template_at_all() -> None:
    with pytest.raises(UserError, match="has no chat template.*template=chatml") as caught:
        build(builder(None), triple())
    assert not isinstance(caught.value, BadRowError)
    with pytest.raises(UserError, match="has no chat template"):
        builder(None).prompt_ids(triple())


def test_a_prompt_without_an_answer_can_be_asked() -> None:
    made = builder(CHATML)
    asked = chat("Ask?", "Tell.", "More?")
    answered = chat("Ask?", "Tell.", "More?", "Enough.")
    assert made.prompt_ids(asked) == made.prompt_ids(answered)
