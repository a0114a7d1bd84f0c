"""Facts of rows, and what follows from them, counted by hand."""

from __future__ import annotations

from typing import Any

import pytest

from ift_lightning.data.auditing.overlap import NgramIndex
from ift_lightning.data.auditing.rows import RowAuditor
from ift_lightning.data.auditing.summary import summarize
from ift_lightning.templating.examples import ExampleBuilder
from ift_lightning.templating.template import Template
from ift_lightning.types import InstructionRecord

LONG = "word " * 60
ROWS = [
    ("train", "Add the numbers.", "def f(a):\n    return sum(a)"),
    ("train", "Add the numbers.", "def f(a):\n    return sum(a)"),  # to the letter
    ("train", "add  the numbers", "def f(a):\n    return sum(a)"),  # in spelling
    ("train", "Add the numbers!", "return 1"),  # the same request
    ("train", LONG, "x"),
    ("train", "Say x.", LONG),
    ("test", "ADD the numbers", "return 1"),
    ("test", "Say y.", "```ruby\nputs 1\n```"),
]
LIMIT = 40


def records() -> list[tuple[str, str, InstructionRecord]]:
    return [
        (split, f"rows:{i}", InstructionRecord(str(i), question, "", answer, category="k"))
        for i, (split, question, answer) in enumerate(ROWS)
    ]


@pytest.fixture
def audit(tokenizer: Any) -> dict[str, Any]:
    template = Template(
        name="plain", prompt="{{ instruction }}\n", answer="{{ output }}", end="{{ eos_token }}"
    )

    def builder(limit: int) -> ExampleBuilder:
        return ExampleBuilder(template, tokenizer, max_seq_length=limit, cut_prompt=True)

    index = NgramIndex([InstructionRecord("h", "say y ruby", output="")], size=3)
    auditor = RowAuditor(builder(LIMIT), builder(1 << 40), LIMIT, index)
    audit = summarize(auditor(records()), LIMIT)
    examples = builder(1 << 40).build([record for _, _, record in records()])
    audit["lengths"] = [len(example.input_ids) for example in examples]
    audit["targets"] = [example.num_target_tokens for example in examples]
    return audit


def test_lengths_and_truncation(audit: dict[str, Any]) -> None:
    train, lengths = audit["splits"]["train"], audit["lengths"]
    assert lengths[4] > LIMIT and lengths[5] > LIMIT
    assert train["num_longer_than_limit"] == 2
    # A long prompt is cut; a long answer never is, and its row cannot be used.
    assert (train["num_prompts_cut"], train["num_unusable"]) == (1, 1)
    assert train["num_tokens_cut"] == lengths[4] - LIMIT
    assert train["num_tokens"] == sum(lengths[:4]) + LIMIT
    assert train["num_target_tokens"] == sum(audit["targets"][:5])
    assert train["supervised_share"] == train["num_target_tokens"] / train["num_tokens"]
    assert (train["length"]["min"], train["length"]["max"]) == (min(lengths[:6]), max(lengths[:6]))
    assert sum(train["length"]["histogram"]["counts"]) == 6
    assert list(train["unusable"].values()) == [1]


def test_every_row_teaches_to_stop(audit: dict[str, Any]) -> None:
    assert audit["splits"]["train"]["num_without_end"] == 0


def test_rows_that_do_not_teach_to_stop_are_named(tokenizer: Any) -> None:
    template = Template(name="endless", prompt="{{ instruction }}\n", answer="{{ output }}", end="")
    builder = ExampleBuilder(template, tokenizer, max_seq_length=1000)
    split = summarize(RowAuditor(builder, builder, 1000)(records()[:2]), 1000)["splits"]["train"]
    assert (split["num_without_end"], split["without_end"]) == (2, ["0", "1"])


def test_duplicates(audit: dict[str, Any]) -> None:
    found = audit["duplicates"]
    assert (found["num_exact"], found["num_near"], found["num_same_request"]) == (1, 2, 1)
    assert found["examples"]["exact"] == [["0", "1"]]
    assert found["examples"]["near"] == [["0", "2"], ["3", "6"]]


def test_overlaps(audit: dict[str, Any]) -> None:
    test = audit["overlap"]["test"]
    assert (test["num_requests"], test["num_rows"], test["share"]) == (1, 1, 0.5)
    assert audit["benchmark"]["examples"] == [["h", "7", "rows:7"]]


def test_languages_and_categories(audit: dict[str, Any]) -> None:
    assert audit["languages"]["ruby"] == 1 and audit["language_sources"]["fence"] == 1
    assert audit["categories"] == {"k": 8}
    assert audit["subtypes"] == {"(not stated)": 8}
