"""Tokens per segment: no stray blanks, BOS once, a prompt that is a prefix, exact round trips."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from templating.making import (
    BYTE_LEVEL,
    SENTENCEPIECE,
    TEMPLATE_NAMES,
    chat,
    decoded,
    make_tokenizer,
    sentencepiece_like,
    template_of,
    triple,
)
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import ByT5Tokenizer, PreTrainedTokenizerFast

from ift_lightning.errors import BadRowError, UserError
from ift_lightning.templating.examples import ExampleBuilder
from ift_lightning.templating.template import Template
from ift_lightning.templating.tokenization import SegmentTokenizer
from ift_lightning.templating.weights import LossWeights
from ift_lightning.types import InstructionRecord, Role, Segment, TokenizedExample

KINDS = (BYTE_LEVEL, *SENTENCEPIECE)


def encode(tokenizer: Any, *texts: str) -> list[list[int]]:
    segments = [Segment(text, Role.ANSWER) for text in texts]
    return [part.input_ids for part in SegmentTokenizer(tokenizer).encode([segments])[0]]


def build(builder: ExampleBuilder, record: InstructionRecord) -> TokenizedExample:
    (example,) = builder.build([record])
    if isinstance(example, BadRowError):
        raise example
    return example


@pytest.mark.parametrize("kind", SENTENCEPIECE)
def test_inner_segments_get_no_stray_blank(kind: str) -> None:
    tokenizer = sentencepiece_like(kind)
    pieces = encode(tokenizer, "return", "return", " return", "\n", "\n\n  x", "é。", "</s>")
    words = [tokenizer.convert_ids_to_tokens(ids) for ids in pieces]
    assert words[0][0].startswith("▁")  # the tokenizer's own, before the whole text
    assert not words[1][0].startswith("▁")
    assert words[2][0].startswith("▁")
    assert words[3] == ["<0x0A>"] or words[3] == ["\n"]
    assert words[6] == ["</s>"]
    joined = decoded(tokenizer, [token for ids in pieces for token in ids])
    assert joined == "returnreturn return\n\n\n  xé。</s>"


@pytest.mark.parametrize("kind", KINDS)
def test_offsets_are_those_of_the_segment(kind: str) -> None:
    tokenizer = make_tokenizer(kind)
    text = " def é。 add(a)\n"
    first, inner = SegmentTokenizer(tokenizer).encode(
        [[Segment("x", Role.PROMPT), Segment(text, Role.ANSWER)]]
    )[0]
    assert first.offsets[-1] == (0, 1)
    assert len(inner.offsets) == len(inner.input_ids)
    covered = {place for start, stop in inner.offsets for place in range(start, stop)}
    assert covered == set(range(len(text)))
    starts = [start for start, _ in inner.offsets]
    assert starts == sorted(starts)


def test_offsets_can_be_left_out() -> None:
    tokenizer = SegmentTokenizer(make_tokenizer(BYTE_LEVEL))
    rows = [[Segment("def", Role.PROMPT), Segment(" add", Role.ANSWER)], []]
    with_them = tokenizer.encode(rows)
    without = tokenizer.encode(rows, with_offsets=False)
    assert [[part.input_ids for part in row] for row in with_them] == [
        [part.input_ids for part in row] for row in without
    ]
    assert all(part.offsets == [] for part in without[0])
    assert tokenizer.encode([]) == []


# --- properties ---------------------------------------------------------------------------------

# "▁" (U+2581) is the one character that a SentencePiece-style tokenizer cannot keep apart from a
# blank; "<" and "|" could spell a special token. Both have tests of their own.
TEXT = st.text(
    st.characters(blacklist_categories=["Cs"], blacklist_characters="▁<|"), min_size=1, max_size=12
) | st.sampled_from(
    ["\n", "\n\n", " ", "  x", "x ", "\n x\n", "\t", "a\r\n", "é", "写", "🙂", "e\u0301", "'s"]
)
ANSWER = TEXT.filter(lambda text: bool(text.strip()))
RECORDS = {
    "triple": st.builds(triple, instruction=ANSWER, input=TEXT, output=ANSWER),
    "triple without input": st.builds(triple, instruction=ANSWER, input=st.just(""), output=ANSWER),
    "chat": st.builds(chat, ANSWER, ANSWER),
    "chat of two": st.builds(chat, ANSWER, ANSWER, ANSWER, ANSWER, system=st.just("") | ANSWER),
}
TRAINED = (Role.REASONING, Role.ANSWER, Role.END)


def check_example(builder: ExampleBuilder, record: InstructionRecord) -> None:
    tokenizer, template = builder.tokenizer, builder.template
    example = build(builder, record)
    prompt_ids = builder.prompt_ids(record)
    assert example.input_ids[: len(prompt_ids)] == prompt_ids
    assert example.num_prompt_tokens == len(prompt_ids)
    assert len(example.loss_weights) == len(example.input_ids)
    assert example.loss_weights[0] == 0
    reasoning = record.reasoning["simple"] if builder.reasoning_level else ""
    segments = template.segments(
        record, tokenizer, reasoning=reasoning, last_turn_only=builder.last_turn_only
    )
    whole = "".join(segment.text for segment in segments)
    bos = tokenizer.bos_token
    if example.input_ids[0] == tokenizer.bos_token_id and not whole.startswith(bos):
        whole = bos + whole
    # A SentencePiece-style tokenizer puts a blank between BOS and the text.
    pattern = re.escape(whole).replace(re.escape(bos), re.escape(bos) + " ?")
    assert re.fullmatch(pattern, decoded(tokenizer, example.input_ids))
    # What is supervised is the trained segments, and nothing else.
    ids = [i for i, w in zip(example.input_ids, example.loss_weights, strict=True) if w > 0]
    wanted = "".join(segment.text for segment in segments if segment.role in TRAINED)
    assert decoded(tokenizer, tokenizer.encode("x", add_special_tokens=False) + ids) == "x" + wanted
    answer = record.messages[-1].content if record.messages else record.output
    assert answer in wanted
    assert example.end_is_supervised


@pytest.mark.parametrize("rows", RECORDS)
@pytest.mark.parametrize("name", TEMPLATE_NAMES)
@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
@settings(max_examples=15, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_prompt_is_a_prefix_and_the_mask_decodes(
    kind: str, name: str, rows: str, data: st.DataObject
) -> None:
    template = template_of(name)
    if rows == "chat of two" and not template.multi_turn:
        return
    builder = ExampleBuilder(
        template,
        make_tokenizer(kind),
        max_seq_length=10_000,
        last_turn_only=data.draw(st.booleans(), "last turn only"),
        reasoning_level=data.draw(st.sampled_from([None, "simple"]), "level"),
    )
    check_example(builder, data.draw(RECORDS[rows], "record"))


# --- BOS ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TEMPLATE_NAMES)
@pytest.mark.parametrize("kind", SENTENCEPIECE)
@pytest.mark.parametrize("adds_bos", [True, False])
def test_bos_comes_once_and_first(kind: str, adds_bos: bool, name: str) -> None:
    tokenizer = sentencepiece_like(kind, adds_bos=adds_bos)
    builder = ExampleBuilder(template_of(name), tokenizer)
    example = build(builder, triple())
    wanted = name == "llama2_chat" or (adds_bos and name not in ("chat", "chatml"))
    assert example.input_ids.count(tokenizer.bos_token_id) == wanted
    assert (example.input_ids[0] == tokenizer.bos_token_id) == wanted
    assert builder.prompt_ids(triple()).count(tokenizer.bos_token_id) == wanted


@pytest.mark.parametrize("bos", ["{{ bos_token }}", "<s>"])
@pytest.mark.parametrize("kind", SENTENCEPIECE)
def test_bos_that_a_template_writes_is_not_doubled(kind: str, bos: str) -> None:
    tokenizer = sentencepiece_like(kind)
    template = Template(name="own", prompt=bos + "{{ instruction }}:")
    builder = ExampleBuilder(template, tokenizer)
    example = build(builder, triple())
    assert example.input_ids.count(tokenizer.bos_token_id) == 1
    prompt_ids = builder.prompt_ids(triple())
    assert example.input_ids[: len(prompt_ids)] == prompt_ids


def test_bos_that_a_chat_template_writes_is_not_doubled() -> None:
    chat_template = "{{ bos_token }}" + sentencepiece_like("legacy-llama").chat_template
    tokenizer = sentencepiece_like("legacy-llama", chat_template=chat_template)
    example = build(ExampleBuilder(template_of("chat"), tokenizer), triple())
    assert example.input_ids.count(tokenizer.bos_token_id) == 1
    assert example.input_ids[0] == tokenizer.bos_token_id


# --- tokenizers that will not do ----------------------------------------------------------------


def test_slow_tokenizer_is_refused() -> None:
    with pytest.raises(UserError, match="no fast version"):
        ExampleBuilder(template_of("alpaca"), ByT5Tokenizer())


def test_missing_eos_is_refused_where_the_template_needs_it() -> None:
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=make_tokenizer(BYTE_LEVEL).backend_tokenizer
    )
    assert tokenizer.eos_token is None
    with pytest.raises(UserError, match="template 'alpaca' ends an answer with the EOS token"):
        ExampleBuilder(template_of("alpaca"), tokenizer)
    example = build(ExampleBuilder(template_of("chatml"), tokenizer), triple())
    assert decoded(tokenizer, example.input_ids).endswith("return 3<|im_end|>")


def lossy(normalizer: Any) -> Any:
    """Return a byte-level tokenizer that changes the text first."""
    kept = make_tokenizer(BYTE_LEVEL)
    backend = Tokenizer.from_str(kept.backend_tokenizer.to_str())
    backend.normalizer = normalizer
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<|bos|>", eos_token="<|eos|>", pad_token="<|pad|>"
    )


@pytest.mark.parametrize(
    ("normalizer", "answer", "bad"),
    [
        (normalizers.Lowercase(), "return", "Return"),
        (normalizers.NFC(), "é", "e\u0301"),
        (normalizers.NFKC(), "fi", "ﬁ"),
        (normalizers.Strip(), "x", " x"),
        (normalizers.Replace("\t", " "), "a b", "a\tb"),
    ],
)
def test_a_tokenizer_that_loses_text_is_refused_row_by_row(
    normalizer: Any, answer: str, bad: str
) -> None:
    builder = ExampleBuilder(template_of("alpaca"), lossy(normalizer))
    kept, refused = builder.build([triple(output=answer), triple(output=bad)])
    assert isinstance(kept, TokenizedExample)
    assert isinstance(refused, BadRowError)
    assert "the answer span does not decode to its own text" in str(refused)
    assert refused.field == "output"
    # What is not supervised may be changed.
    assert isinstance(builder.build([triple(input=bad)])[0], TokenizedExample)
    prompt_too = ExampleBuilder(
        template_of("alpaca"), lossy(normalizer), weights=LossWeights({"prompt": 0.5})
    )
    if normalizer.__class__ is not normalizers.Lowercase and bad != " x":
        assert isinstance(prompt_too.build([triple(input=answer)])[0], TokenizedExample)
        assert isinstance(prompt_too.build([triple(input=bad)])[0], BadRowError)


def test_a_vocabulary_without_the_text_is_refused() -> None:
    vocabulary = {"<unk>": 0, "a": 1, "b": 2, "</s>": 3, ":": 4, "q": 5}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="<unk>", eos_token="</s>"
    )
    builder = ExampleBuilder(Template(name="own", prompt="{{ instruction }}:"), tokenizer)
    (refused,) = builder.build([triple("q", "", "c")])
    assert isinstance(refused, BadRowError) and "<unk>" in str(refused)


@pytest.mark.parametrize("kind", SENTENCEPIECE)
def test_the_blank_sign_in_an_answer_is_refused_by_sentencepiece(kind: str) -> None:
    builder = ExampleBuilder(template_of("alpaca"), sentencepiece_like(kind))
    (refused,) = builder.build([triple(output="a▁b")])
    assert isinstance(refused, BadRowError)
    assert isinstance(
        ExampleBuilder(template_of("alpaca"), make_tokenizer(BYTE_LEVEL)).build(
            [triple(output="a▁b")]
        )[0],
        TokenizedExample,
    )


@pytest.mark.parametrize("kind", SENTENCEPIECE)
def test_a_stray_blank_would_be_noticed(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    builder = ExampleBuilder(template_of("alpaca"), sentencepiece_like(kind))
    monkeypatch.setattr(builder._segment_tokenizer, "_adds_prefix_space", False)
    (refused,) = builder.build([triple(output="return")])
    assert isinstance(refused, BadRowError) and "' return' instead of 'return'" in str(refused)
