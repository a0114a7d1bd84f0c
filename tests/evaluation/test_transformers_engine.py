"""Batched generation against the plainest one there is: one row, no cache, no padding."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import pytest
import torch
from conftest import FAMILIES, make_model, train_tokenizer
from tiny_training import randomize_adapter

from ift_lightning.errors import UserError
from ift_lightning.evaluation.decoding_model import DecodingModel
from ift_lightning.evaluation.generation import (
    Completion,
    Decoding,
    FinishReason,
    Prompt,
    uniform_draws,
)
from ift_lightning.evaluation.transformers_engine import TransformersEngine, draw_tokens
from ift_lightning.modeling.adapters import attach_adapter

PEFT: dict[str, dict[str, Any]] = {
    "lora": {"_target_": "peft.LoraConfig", "r": 4},
    "dora": {"_target_": "peft.LoraConfig", "r": 4, "use_dora": True},
    "adalora": {"_target_": "peft.AdaLoraConfig", "init_r": 6, "target_r": 2, "total_step": 10},
    "ia3": {"_target_": "peft.IA3Config"},
    "prefix": {"_target_": "peft.PrefixTuningConfig", "num_virtual_tokens": 5},
    "prompt": {"_target_": "peft.PromptTuningConfig", "num_virtual_tokens": 5},
    "ptuning": {
        "_target_": "peft.PromptEncoderConfig",
        "num_virtual_tokens": 5,
        "encoder_hidden_size": 16,
    },
}
TEXTS = (
    "def add(a, b):\n",
    "Write a function that adds two numbers and returns them.",
    "x",
    "for item in items:\n    if item > 0:\n        total += item\n" * 2,
    "指令:写一个函数",
    "return",
    "### Instruction:\nWrite a function.\n\n### Response:\n",
)


@lru_cache
def the_tokenizer() -> Any:
    return train_tokenizer()


def prompts(beginning: str = "Below is ") -> list[Prompt]:
    """Return prompts of unequal lengths that begin alike."""
    encode = the_tokenizer().encode
    return [
        Prompt(f"row{index}", (0, *encode(beginning + text)))
        for index, text in enumerate([*TEXTS, *(text + " more" for text in TEXTS)])
    ]


def sharpened(model: Any) -> Any:
    """Spread the logits of a random model, so that no two tokens are nearly equally likely."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(4.0)
    return model


def engine(model: Any, batch_size: int = 4, **options: Any) -> TransformersEngine:
    decoding_model = DecodingModel(model, **options)
    return TransformersEngine(
        decoding_model, the_tokenizer(), batch_size=batch_size, progress_bar=False
    )


def generated(
    model: Any, decoding: Decoding, batch_size: int = 4, rows: list[Prompt] | None = None,
    **options: Any,
) -> dict[tuple[str, int], Completion]:  # fmt: skip
    found = engine(model, batch_size, **options).generate(rows or prompts(), decoding)
    return {(item.id, item.sample): item for item in found}


def reference_text(model: Any, prompt: Prompt, decoding: Decoding) -> str:
    """Take the likeliest token again and again, reading the whole row anew for each."""
    ids = list(prompt.input_ids)
    new: list[int] = []
    model.eval()
    with torch.no_grad():
        while len(new) < decoding.max_new_tokens:
            token = int(model(input_ids=torch.tensor([ids + new])).logits[0, -1].argmax())
            if token in decoding.end_token_ids:
                break
            new.append(token)
    return str(the_tokenizer().decode(new, skip_special_tokens=True))


# Ends often enough that rows leave their batches at different times.
ENDS = tuple(range(1, 480, 13))
GREEDY = Decoding(16, end_token_ids=ENDS)


@pytest.mark.parametrize("family", FAMILIES)
def test_whatever_the_batch_size_every_family_gives_what_a_plain_loop_gives(family: str) -> None:
    model = sharpened(make_model(family, len(the_tokenizer())))
    expected = {row.id: reference_text(model, row, GREEDY) for row in prompts()}
    for batch_size in (1, 3, 16):
        found = generated(model, GREEDY, batch_size)
        assert {key[0]: item.text for key, item in found.items()} == expected, batch_size
    lengths = {item.num_tokens for item in found.values()}
    reasons = {item.finish_reason for item in found.values()}
    assert len(lengths) > 1, "the rows have to end at different times for this to show anything"
    assert reasons == {FinishReason.STOP, FinishReason.LENGTH}


@pytest.mark.parametrize(
    "family",
    [
        *("llama", "gpt2"),
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in sorted({*FAMILIES} - {"llama", "gpt2"})
        ),
    ],
)
@pytest.mark.parametrize("method", PEFT)
def test_whatever_the_batch_size_every_method_gives_what_a_plain_loop_gives(
    method: str, family: str
) -> None:
    base = sharpened(make_model(family, len(the_tokenizer())))
    plain = {row.id: reference_text(base, row, GREEDY) for row in prompts()}
    model = attach_adapter(base, PEFT[method])
    randomize_adapter(model)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad and parameter.dim() > 1 and "ranknum" not in name:
                parameter.mul_(8.0)
    expected = {row.id: reference_text(model, row, GREEDY) for row in prompts()}
    assert expected != plain, "the adapter has to change something for this to show anything"
    for batch_size in (1, 3, 16):
        found = generated(model, GREEDY, batch_size)
        assert {key[0]: item.text for key, item in found.items()} == expected, batch_size
    without = generated(model, GREEDY, 16, use_adapter=False)
    assert {key[0]: item.text for key, item in without.items()} == plain


def test_sliding_window_sees_what_it_saw_in_training() -> None:
    model = sharpened(
        make_model("qwen2", len(the_tokenizer()), use_sliding_window=True, sliding_window=8,
                   max_window_layers=0)
    )  # fmt: skip
    assert DecodingModel(model).window == 8
    expected = {row.id: reference_text(model, row, GREEDY) for row in prompts()}
    found = generated(model, GREEDY, 16)
    assert {key[0]: item.text for key, item in found.items()} == expected


@pytest.fixture(scope="module")
def model() -> Any:
    return sharpened(make_model("llama", len(the_tokenizer())))


SAMPLING = Decoding(8, do_sample=True, num_samples=3, temperature=8.0, top_p=0.9, seed=1)


def test_samples_depend_on_seed_and_id_alone(model: Any) -> None:
    everything = generated(model, SAMPLING, 16)
    assert len(everything) == 3 * len(prompts())
    for batch_size in (1, 2, 5):
        assert generated(model, SAMPLING, batch_size) == everything
    alone = generated(model, SAMPLING, 4, [prompts()[3]])
    assert alone == {key: item for key, item in everything.items() if key[0] == "row3"}
    more = Decoding(8, do_sample=True, num_samples=5, temperature=8.0, top_p=0.9, seed=1)
    assert everything.items() <= generated(model, more, 16).items()


def test_samples_differ_from_each_other_and_between_seeds(model: Any) -> None:
    first = generated(model, SAMPLING, 16)
    texts = {first["row0", sample].text for sample in range(3)}
    assert len(texts) == 3
    other = Decoding(8, do_sample=True, num_samples=3, temperature=8.0, top_p=0.9, seed=2)
    again = generated(model, other, 16)
    assert sum(first[key].text == again[key].text for key in first) < len(first) / 4


def test_draws_follow_the_distribution_inside_the_nucleus() -> None:
    logits = torch.tensor([[0.5, 0.1, 0.3, 0.1]]).log()
    draws = torch.linspace(0, 1, 10_001, dtype=torch.float64)[:-1]
    rows = logits.expand(len(draws), -1)
    counts = torch.bincount(draw_tokens(rows, draws, 1.0, 1.0), minlength=4) / len(draws)
    assert torch.allclose(counts, torch.tensor([0.5, 0.1, 0.3, 0.1]), atol=2e-4)
    # 0.5 and 0.3 reach 0.7 together; the rest is never drawn.
    counts = torch.bincount(draw_tokens(rows, draws, 1.0, 0.7), minlength=4) / len(draws)
    assert torch.allclose(counts, torch.tensor([0.625, 0.0, 0.375, 0.0]), atol=2e-4)
    counts = torch.bincount(draw_tokens(rows, draws, 0.5, 1.0), minlength=4) / len(draws)
    squares = torch.tensor([0.25, 0.01, 0.09, 0.01])
    assert torch.allclose(counts, squares / squares.sum(), atol=2e-4)
    assert draw_tokens(logits, torch.tensor([0.999999]), 1.0, 0.01).tolist() == [0]


def test_draws_of_a_sample_are_its_own() -> None:
    one, two = (uniform_draws(SAMPLING, "row", sample) for sample in (0, 1))
    assert len(one) == 8
    assert (one != two).all()
    assert (uniform_draws(SAMPLING, "row", 0) == one).all()
    assert (uniform_draws(SAMPLING, "row2", 0) != one).all()


class Scripted(torch.nn.Module):
    """Writes a fixed text behind every prompt, whatever it is."""

    def __init__(self, text: str, end: int) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.ids = [*the_tokenizer().encode(text), end]
        config = {"num_hidden_layers": 1, "max_position_embeddings": 400, "sliding_window": None}
        self.config = type("Config", (), config)()

    def forward(self, input_ids: Any, attention_mask: Any, past_key_values: Any, **_: Any) -> Any:
        size, length = input_ids.shape
        past = past_key_values.get_seq_length()
        # One value a row: how many tokens have been written.
        written = torch.zeros(size, 1, 1, 1)
        if past:
            written = past_key_values.layers[0].keys[:, :, -1:] + 1
        states = written.expand(size, 1, length, 1)
        past_key_values.update(states, states, 0)
        logits = torch.zeros(size, 1, len(the_tokenizer()))
        for row in range(size):
            logits[row, 0, self.ids[min(int(written[row]), len(self.ids) - 1)]] = 1.0
        return type("Output", (), {"logits": logits})()


@pytest.mark.parametrize(
    ("text", "stop", "expected"),
    [
        ("return a\n### Instruction:\nmore and more", ("\n### Instruction:",), "return a"),
        ("return a + b", ("\n### Instruction:",), "return a + b"),
        ("a stop and STOP again", ("STOP", "stop"), "a "),
        ("STOP", ("STOP",), ""),
        ("写一个函数。回答：好", ("回答",), "写一个函数。"),
    ],
)
def test_stop_strings_end_a_completion_and_are_not_part_of_it(
    text: str, stop: tuple[str, ...], expected: str
) -> None:
    decoding = Decoding(100, stop=stop, end_token_ids=(1,))
    # One prompt, since the script counts from the first token that is read.
    found = generated(Scripted(text, end=1), decoding, 4, prompts()[:1])
    assert found["row0", 0].text == expected
    assert found["row0", 0].finish_reason is FinishReason.STOP


def test_what_is_cut_off_says_so() -> None:
    text = "return a + b and much more that has no room"
    found = generated(Scripted(text, end=1), Decoding(5, end_token_ids=(1,)), 4, prompts()[:1])
    completion = found["row0", 0]
    assert completion.finish_reason is FinishReason.LENGTH
    assert completion.num_tokens == 5
    assert text.startswith(completion.text)
    # A stop string within the last tokens counts, wherever the search for it would have been due.
    decoding = Decoding(5, stop=(completion.text[-2:],), end_token_ids=(1,))
    found = generated(Scripted(text, end=1), decoding, 4, prompts()[:1])
    assert found["row0", 0].finish_reason is FinishReason.STOP


def test_completion_ends_where_the_model_has_no_position_left(model: Any) -> None:
    long = Prompt("long", tuple([0] + [5] * 505))
    found = generated(model, Decoding(40), 4, [long, prompts()[0]])
    assert found["long", 0].num_tokens == 512 - 506
    assert found["row0", 0].num_tokens == 40
    with pytest.raises(UserError, match=r"'full'.*512 tokens.*data\.overflow=cut_prompt"):
        generated(model, Decoding(4), 4, [Prompt("full", tuple([5] * 512))])


def test_training_mode_is_as_it_was(model: Any) -> None:
    model.train()
    generated(model, Decoding(2), 4)
    assert model.training
    model.eval()


def test_streamed_text_ends_as_the_batched_one(model: Any) -> None:
    for row in prompts()[:3]:
        parts = list(engine(model).stream(row, GREEDY))
        assert parts[-1] == generated(model, GREEDY, 4, [row])[row.id, 0].text
        assert len(parts) > 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_samples": 2}, "generation=sampling"),
        ({"do_sample": True, "temperature": 0.0}, "temperature"),
        ({"do_sample": True, "top_p": 0.0}, "top_p"),
        ({"stop": ("",)}, "empty"),
    ],
)
def test_decoding_that_means_nothing_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Decoding(4, **options)


def test_shared_beginning_is_read_once(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[tuple[int, int]] = []
    original: Callable[..., Any] = DecodingModel.read

    def counting(self: Any, input_ids: torch.Tensor, *rest: Any) -> Any:
        read.append(tuple(input_ids.shape))  # type: ignore[arg-type]
        return original(self, input_ids, *rest)

    monkeypatch.setattr(DecodingModel, "read", counting)
    same = [Prompt(str(n), tuple(range(3, 40)) + (50 + n, 60 + n)) for n in range(4)]
    sampling = Decoding(1, do_sample=True, num_samples=3)
    generated(model, sampling, 12, same)
    # The 37 shared ids once, then 2 of each prompt; the three samples of a prompt add nothing.
    assert read == [(1, 37), (4, 2)]
