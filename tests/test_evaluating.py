"""Rows, prompts and decoding of an evaluation, from a composed config."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from composing import compose_train
from conftest import train_tokenizer

from ift_lightning import assembly
from ift_lightning.config.entry import config_dir
from ift_lightning.errors import UserError
from ift_lightning.evaluating import build_decoding, load_rows, wants_generation

TEMPLATES = sorted(path.stem for path in (config_dir() / "template").glob("*.yaml"))
CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture(scope="module")
def chat_tokenizer() -> Any:
    tokenizer = train_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.chat_template = CHATML
    return tokenizer


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("data", ["drills", "defects"])
def test_prompt_ids_begin_the_training_example(
    template: str, data: str, chat_tokenizer: Any, tmp_path: Path
) -> None:
    if (template, data) == ("reverse_instruction", "defects"):
        pytest.skip("chats cannot be turned around")
    config = compose_train(
        f"data={data}",
        f"template={template}",
        "data.num_train=4",
        "data.num_val=0",
        "data.num_test=20",
        "data.max_seq_length=2000",
        f"data.cache_dir={tmp_path}",
        "trainer.progress_bar=false",
    )
    splits = assembly.prepare_data(config, chat_tokenizer, tmp_path / "rejected.jsonl").splits
    test = splits["test"]
    rows = load_rows(config, chat_tokenizer, tmp_path / "rejected.jsonl", only=test)
    assert len(rows.prompts) == len(test) == 20
    for index, prompt in enumerate(rows.prompts):
        example = test.rows([index])[0]
        assert prompt.id == example.id
        assert list(prompt.input_ids) == example.input_ids[: example.num_prompt_tokens]
        answer = example.input_ids[example.num_prompt_tokens :]
        assert rows.items[index].reference.strip() in chat_tokenizer.decode(answer)
        assert rows.items[index].prompt in chat_tokenizer.decode(prompt.input_ids)


@pytest.mark.parametrize(
    ("template", "stop", "end"),
    [
        ("alpaca", ("\n### Instruction:",), {"<|eos|>"}),
        ("chatml", ("<|im_end|>",), {"<|eos|>", "<|im_end|>"}),
        ("reverse_instruction", ("\n### ",), {"<|eos|>"}),
        ("chat", (), {"<|eos|>"}),
    ],
)
def test_ends_come_from_the_template(
    template: str, stop: tuple[str, ...], end: set[str], chat_tokenizer: Any
) -> None:
    decoding = build_decoding(compose_train(f"template={template}"), chat_tokenizer, None)
    assert decoding.stop == stop
    assert set(chat_tokenizer.convert_ids_to_tokens(list(decoding.end_token_ids))) == end


def test_end_that_is_text_is_looked_for(chat_tokenizer: Any) -> None:
    config = compose_train("template.end='### End'", 'generation.stop=[\'"""\']')
    decoding = build_decoding(config, chat_tokenizer, None)
    assert decoding.stop == ("\n### Instruction:", '"""', "### End")


def test_room_for_an_answer(chat_tokenizer: Any) -> None:
    def room(*overrides: str) -> int:
        return build_decoding(compose_train(*overrides), chat_tokenizer, None).max_new_tokens

    assert room() == 128
    assert room("cot_level=complex") == 128 + 384
    assert room("generation.max_new_tokens=7") == 7
    assert room("data=code_alpaca") == 512


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


ROWS = [{"id": f"r{n}", "instruction": "Add. " * n, "output": "a + b"} for n in range(1, 21)]


def test_rows_that_cannot_be_used_are_accounted_for(chat_tokenizer: Any, tmp_path: Path) -> None:
    path = write(
        tmp_path / "rows.jsonl", [*ROWS, {"id": "bad", "instruction": "<|eos|>", "output": "x"}]
    )
    overrides = ["data=jsonl", f"data.path={path}", "data.test_fraction=1", "data.val_fraction=0"]
    rejected = tmp_path / "out" / "rejected.jsonl"
    with pytest.raises(UserError, match=r"rows\.jsonl:21.*<\|eos\|>(.|\n)*data\.bad_rows=skip"):
        load_rows(compose_train(*overrides), chat_tokenizer, rejected)
    assert json.loads(rejected.read_text(encoding="utf-8"))["line"] == 21
    rows = load_rows(compose_train(*overrides, "data.bad_rows=skip"), chat_tokenizer, rejected)
    assert (len(rows.items), rows.num_rejected) == (20, 1)
    with pytest.raises(UserError, match=r"no rows in its val split.*data\.val_fraction"):
        load_rows(
            compose_train(*overrides, "data.bad_rows=skip"), chat_tokenizer, rejected, split="val"
        )


def test_long_prompts_are_cut_from_the_left_where_that_is_asked_for(
    chat_tokenizer: Any, tmp_path: Path
) -> None:
    path = write(tmp_path / "rows.jsonl", ROWS)
    config = compose_train(
        "data=jsonl", f"data.path={path}", "data.test_fraction=1", "data.val_fraction=0",
        "data.overflow=cut_prompt", "generation.max_new_tokens=10", "template=completion",
    )  # fmt: skip
    decoding = build_decoding(config, chat_tokenizer, None)
    rejected = tmp_path / "rejected.jsonl"
    whole = load_rows(config, chat_tokenizer, rejected)
    rows = load_rows(config, chat_tokenizer, rejected, decoding=decoding, max_positions=30)
    lengths = [len(prompt.input_ids) for prompt in whole.prompts]
    assert min(lengths) < 20 < max(lengths)
    for full, prompt in zip(whole.prompts, rows.prompts, strict=True):
        assert prompt.input_ids == full.input_ids[-20:]


@pytest.mark.parametrize(
    ("overrides", "tests", "expected"),
    [
        (["data=drills"], None, True),
        (["data=defects"], None, True),
        (["data=drills", "evaluate=false"], None, False),
        (["data=drills", "data_variant=reverse"], None, False),
        (["data=jsonl"], [], False),
        (["data=jsonl", "evaluate=true"], [], True),
        (["data=jsonl"], ["assert True"], True),
    ],
)
def test_training_generates_where_that_says_something(
    overrides: list[str],
    tests: list[str] | None,
    expected: bool,
    chat_tokenizer: Any,
    tmp_path: Path,
) -> None:
    options = ["data.num_train=4", "data.num_val=0", "data.num_test=4"]
    if tests is not None:
        path = write(tmp_path / "rows.jsonl", [row | {"tests": tests} for row in ROWS])
        options = [f"data.path={path}", "data.test_fraction=0.3"]
    config = compose_train(
        *overrides, *options, f"data.cache_dir={tmp_path}", "data.max_seq_length=2000"
    )
    splits = assembly.prepare_data(config, chat_tokenizer, tmp_path / "rejected.jsonl").splits
    assert wants_generation(config, splits["test"]) is expected
    assert wants_generation(config, splits["val"]) is False or tests is not None
