"""The page shows what it is given, and nothing in a row can get out of it."""

from __future__ import annotations

from html.parser import HTMLParser

from ift_lightning.reporting.audit_page import audit_page, bars, histogram
from ift_lightning.reporting.audit_text import audit_text

LENGTH = {
    "min": 1,
    "p50": 4.0,
    "p95": 9.0,
    "max": 9,
    "histogram": {"edges": [0, 5, 10], "counts": [3, 1]},
}
AUDIT = {
    "max_seq_length": 8,
    "num_rows": 4,
    "splits": {
        "train": {
            "num_rows": 4,
            "num_usable": 3,
            "num_unusable": 1,
            "unusable": {"too long": 1},
            "num_tokens": 1234,
            "num_target_tokens": 617,
            "supervised_share": 0.5,
            "num_longer_than_limit": 1,
            "num_prompts_cut": 0,
            "num_without_end": 2,
            "length": LENGTH,
            "target_length": LENGTH,
        }
    },
    "duplicates": {"num_exact": 1, "num_near": 2, "num_same_request": 3},
    "overlap": {"test": {"num_rows": 1, "num_requests": 2, "share": 0.25}},
    "benchmark": {
        "file": "HumanEval.jsonl",
        "num_rows": 7,
        "ngram_size": 13,
        "num_problems": 5,
        "num_all_problems": 164,
    },
    "languages": {"python": 3, "(not stated)": 1},
    "categories": {"<b>": 4},
    "subtypes": {"(not stated)": 4},
    "num_rejected": 2,
    "rejected": {"'output' is empty": 2},
}


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.seen.add(tag)
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: object) -> None:
        self.seen.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_page() -> None:
    page = audit_page(AUDIT, "a & b", [("r<1>", [("prompt </pre><script>", False), ("ok", True)])])
    tags = Tags()
    tags.feed(page)
    assert tags.open == [] and "script" not in tags.seen and "b" not in tags.seen
    assert "<mark>ok</mark>" in page and "r&lt;1&gt;" in page and "a &amp; b" in page
    assert "1,234" in page and "50.0%" in page
    assert "http" not in page  # it needs nothing from anywhere


def test_histogram_bars_are_in_proportion() -> None:
    svg = histogram({"edges": [0, 5, 10], "counts": [4, 1]}, 5)
    assert 'height="180.0"' in svg and 'height="45.0"' in svg
    assert "limit 5" in svg and "5 to 9: 1 rows" in svg


def test_bars() -> None:
    svg = bars({"a": 4, "b": 1, "c": 1}, most=2)
    assert 'width="560.0"' in svg and 'width="140.0"' in svg and "and 1 more" in svg


def test_text() -> None:
    assert audit_text(AUDIT).splitlines() == [
        "train       4 rows, 3 of them usable; 1,234 tokens, 50.0% supervised",
        "            length 1 to 9 tokens, median 4, 95 % up to 9; 1 longer than 8, 0 prompts cut",
        "            2 rows do not teach the model to stop",
        "            1 unusable: too long",
        "duplicates  1 to the letter, 2 in spelling only, 3 with the same request and another "
        "answer",
        "overlap     2 test rows ask what a training row asks (25.00%), 1 of them with the same "
        "answer",
        "benchmark   7 rows share 13 words in a row with 5 of the 164 problems of HumanEval.jsonl",
        "languages   python 3, (not stated) 1",
        "categories  <b> 4",
        "unreadable  2 (2: 'output' is empty)",
    ]
