"""Every row arrives in the split where it belongs, or in ``rejected.jsonl`` with the reason."""

from __future__ import annotations

import dataclasses
import io
import json
import re
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from ift_lightning.data import preparation as preparation_module
from ift_lightning.data import split_files
from ift_lightning.data.json_stream import OnBad
from ift_lightning.data.preparation import DataPreparation
from ift_lightning.data.record_sources import FileSource
from ift_lightning.data.splits import HashSplitter
from ift_lightning.data.token_cache import TokenCache, TokenizedData
from ift_lightning.data.variants import variant
from ift_lightning.errors import BadRowError, UserError
from ift_lightning.types import (
    InstructionRecord,
    RawRow,
    RejectedRow,
    RowLocation,
    TokenizedExample,
    content_id,
)

SPLITTER = HashSplitter(0.2, 0.1)


class ListSource:
    """Rows in memory; a string stands for a row that cannot be read."""

    def __init__(self, rows: Sequence[InstructionRecord | str], fingerprint: str = "f") -> None:
        self.rows = rows
        self.fingerprint = fingerprint

    def records(self, on_bad: OnBad) -> Iterator[tuple[RawRow, InstructionRecord]]:
        for index, row in enumerate(self.rows):
            location = RowLocation("memory.jsonl", index + 1, index)
            if isinstance(row, str):
                on_bad(RejectedRow(location, "broken", row=row))
            else:
                yield RawRow({"output": row.output}, location), row


def records(count: int, **changes: Any) -> list[InstructionRecord]:
    return [
        InstructionRecord(
            f"r{i}", instruction=f"i{i}", output=f"x = {i}  # c", language="python", **changes
        )
        for i in range(count)
    ]


def settings(**changes: Any) -> DataPreparation:
    values: dict[str, Any] = {
        "variant": variant("standard"),
        "variant_name": "standard",
        "split_of": SPLITTER.split_of,
        "split_key": [0.2, 0.1, 0],
        **changes,
    }
    return DataPreparation(**values)


@pytest.fixture
def prepare(tmp_path: Path, builder: Any) -> Callable[..., TokenizedData]:
    """Return a function that prepares rows with the test's cache, builder and folder."""

    def run(source: Any, key: Any = "k", **changes: Any) -> TokenizedData:
        if isinstance(source, list):
            source = ListSource(source)
        return settings(**changes).run(
            source,
            builder,
            key,
            TokenCache(tmp_path / "cache"),
            tmp_path / "run" / "rejected.jsonl",
            progress_bar=False,
        )

    return run


def ids(data: TokenizedData) -> dict[str, list[str]]:
    return {
        name: [split.id_of(i) for i in range(len(split))] for name, split in data.splits.items()
    }


def rejected(tmp_path: Path) -> list[dict[str, Any]]:
    text = (tmp_path / "run" / "rejected.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


Prepare = Callable[..., TokenizedData]


@pytest.mark.parametrize("num_rows", [1, 511, 512, 513, 1024, 1100, 1537, 2600])
@pytest.mark.parametrize("progress_bar", [False, True])
def test_all_rows_arrive(tmp_path: Path, builder: Any, num_rows: int, progress_bar: bool) -> None:
    rows = records(num_rows)
    data = settings().run(
        ListSource(rows),
        builder,
        "k",
        TokenCache(tmp_path / "cache"),
        tmp_path / "rejected.jsonl",
        progress_bar=progress_bar,
    )
    expected: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    for row in rows:
        expected[SPLITTER.split_of(row.id)].append(row.id)
    assert ids(data) == expected
    assert (builder.num_built, data.num_rejected) == (num_rows, 0)
    train = data.splits["train"]
    for index, example in enumerate(train.rows(range(len(train)))):
        number = expected["train"][index][1:]
        text = "".join(map(chr, example.input_ids))
        assert text == f"i{number}x = {number}  # c"
    assert not (tmp_path / "rejected.jsonl").exists()


def test_all_rows_of_a_file_arrive(tmp_path: Path, prepare: Prepare) -> None:
    path = tmp_path / "rows.jsonl"
    lines = [json.dumps({"instruction": f"i{i}", "output": f"o{i}"}) for i in range(1300)]
    path.write_text("\n".join(lines))
    data = prepare(FileSource(path))
    found = [row_id for split in ids(data).values() for row_id in split]
    assert sorted(found) == sorted(content_id(f"i{i}", "", f"o{i}") for i in range(1300))


MIXED: list[InstructionRecord | str] = [
    *records(3),
    "not a row",
    InstructionRecord("refused", instruction="i", output="REFUSE"),
    InstructionRecord("prose", instruction="i", output="o"),  # no language
    *[dataclasses.replace(row, id=f"more-{row.id}") for row in records(700)],
    InstructionRecord("late", instruction="i", output="REFUSE late"),
]


def test_bad_rows_stop_the_run(tmp_path: Path, prepare: Prepare) -> None:
    with pytest.raises(UserError) as caught:
        prepare(MIXED)
    assert str(caught.value).splitlines() == [
        "3 rows cannot be used (704 can):",
        "  memory.jsonl:4: broken",
        "  memory.jsonl:5, field 'output': the row is too long",
        "  memory.jsonl:707, field 'output': the row is too long",
        f"All of them are in {tmp_path / 'run' / 'rejected.jsonl'}. Correct them, or leave them "
        "out with data.bad_rows=skip",
    ]
    assert [row["line"] for row in rejected(tmp_path)] == [4, 5, 707]
    assert list((tmp_path / "cache").iterdir()) == []


def test_bad_rows_are_left_out_and_accounted_for(tmp_path: Path, prepare: Prepare) -> None:
    for from_cache in (False, True):
        data = prepare(
            MIXED, skip_bad_rows=True, variant=needs_a_language, variant_name="needs_a_language"
        )
        assert data.from_cache == from_cache
        found = {row_id for split in ids(data).values() for row_id in split}
        assert len(found) == 703
        assert data.num_rejected == 4
        # In the order in which they were found: what a reader or a variant refuses comes before
        # what the block's tokens show.
        assert sorted(rejected(tmp_path), key=lambda row: row["line"]) == [
            {
                "file": "memory.jsonl",
                "line": line,
                "row_number": line - 1,
                "field": field,
                "reason": reason,
                "row": row,
            }
            for line, field, reason, row in (
                (4, None, "broken", "not a row"),
                (5, "language", NOT_STATED, {"output": "REFUSE"}),
                (6, "language", NOT_STATED, {"output": "o"}),
                (707, "language", NOT_STATED, {"output": "REFUSE late"}),
            )
        ]
        (tmp_path / "run" / "rejected.jsonl").unlink()


NOT_STATED = "a language is needed"


def needs_a_language(record: InstructionRecord) -> InstructionRecord:
    if not record.language:
        raise BadRowError(NOT_STATED, field="language")
    return record


def test_what_a_variant_did_is_kept_with_the_tokens(prepare: Prepare) -> None:
    rows = [*records(3), InstructionRecord("prose", instruction="i", output="o # p")]
    for from_cache in (False, True):
        chosen = variant("no_comments")
        data = prepare(rows, variant=chosen, variant_name=chosen.key, variant_counts=chosen.counts)
        assert data.from_cache == from_cache
        assert data.variant_counts == {
            "row:changed": 3,
            "row:unknown_language": 1,
            "piece:changed": 3,
            "piece:unknown_language": 1,
            "language:python (row)": 3,
            "removed:comment": 3,
        }
    assert prepare(rows).variant_counts == {}


def test_no_row_left(tmp_path: Path, prepare: Prepare) -> None:
    with pytest.raises(UserError, match=r"no row is left to train on: 1 row (?s:.*)memory.jsonl:1"):
        prepare(["x"], skip_bad_rows=True)
    assert len(rejected(tmp_path)) == 1
    with pytest.raises(UserError, match="there are no rows: look at data.num_train"):
        prepare(records(3), limits={"train": 0, "val": 0, "test": 0})


def test_rejected_rows_of_an_earlier_try_go_away(tmp_path: Path, prepare: Prepare) -> None:
    with pytest.raises(UserError):
        prepare(MIXED)
    prepare(ListSource(records(3), "mended"))
    assert not (tmp_path / "run" / "rejected.jsonl").exists()


def test_long_lists_of_bad_rows_are_cut_in_the_message_only(
    tmp_path: Path, prepare: Prepare
) -> None:
    with pytest.raises(UserError) as caught:
        prepare([*records(1), *["bad"] * 30])
    assert len(re.findall("broken", str(caught.value))) == 8
    assert len(rejected(tmp_path)) == 30


def test_limits_take_the_first_rows_of_each_split(prepare: Prepare) -> None:
    everything = ids(prepare(records(300)))
    limited = ids(prepare(records(300), limits={"train": 7, "val": 3, "test": None}))
    assert limited == {
        "train": everything["train"][:7],
        "val": everything["val"][:3],
        "test": everything["test"],
    }


def test_a_rejected_row_counts_for_its_limit(prepare: Prepare) -> None:
    rows = records(300)
    first = next(i for i, row in enumerate(rows) if SPLITTER.split_of(row.id) == "train")
    whole = ids(prepare(rows, limits={"train": 5}))["train"]
    rows[first] = dataclasses.replace(rows[first], output="REFUSE")
    other = prepare(ListSource(rows, "other"), limits={"train": 5}, skip_bad_rows=True)
    assert ids(other)["train"] == whole[1:]


def test_rows_beyond_a_limit_are_not_built(prepare: Prepare, builder: Any) -> None:
    prepare(records(300), limits={"train": 2, "val": 2, "test": 2})
    assert builder.num_built == 6


def write_rows(path: Path, rows: Sequence[tuple[str, str]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({"instruction": i, "output": o}) + "\n" for i, o in rows))
    return path


def test_splits_stand_when_rows_are_added(tmp_path: Path, prepare: Prepare) -> None:
    rows = [(f"i{i % 150}", f"o{i % 150}") for i in range(200)]  # fifty of them twice
    before = ids(prepare(FileSource(write_rows(tmp_path / "a.jsonl", rows))))
    added = [*rows, *((f"new{i}", "o") for i in range(100)), *rows[:20]]
    after = ids(prepare(FileSource(write_rows(tmp_path / "b.jsonl", added))))
    for split in before:
        assert after[split][: len(before[split])] == before[split]
    numbered = [
        (row_id, split) for split, names in after.items() for row_id in names if "#" in row_id
    ]
    assert len(numbered) == 70
    assert all(row_id.partition("#")[0] in after[split] for row_id, split in numbered)


def test_cache_serves_the_second_run(prepare: Prepare, builder: Any) -> None:
    first = prepare(records(600))
    assert (first.from_cache, builder.num_built) == (False, 600)
    second = prepare(records(600))
    assert (second.from_cache, builder.num_built) == (True, 600)
    assert ids(first) == ids(second)


CHANGES: dict[str, dict[str, Any]] = {
    "builder": {"key": "template, tokenizer, weights or length"},
    "variant": {"variant": variant("no_comments"), "variant_name": "no_comments"},
    "split": {"split_key": [0.2, 0.1, 1]},
    "limits": {"limits": {"train": 5}},
    "bad rows": {"skip_bad_rows": True},
}


@pytest.mark.parametrize("name", CHANGES)
def test_cache_does_not_serve_anything_else(prepare: Prepare, builder: Any, name: str) -> None:
    prepare(records(10))
    assert not prepare(records(10), **CHANGES[name]).from_cache
    assert prepare(records(10), **CHANGES[name]).from_cache
    assert not prepare(ListSource(records(10), "other")).from_cache


def test_cache_goes_by_content_and_not_by_folder(tmp_path: Path, prepare: Prepare) -> None:
    rows = [("i", "o"), ("j", "p")]
    prepare(FileSource(write_rows(tmp_path / "here" / "rows.jsonl", rows)))
    moved = FileSource(write_rows(tmp_path / "there" / "deeper" / "rows.jsonl", rows))
    assert prepare(moved).from_cache
    changed = write_rows(tmp_path / "there" / "deeper" / "rows.jsonl", [*rows, ("k", "q")])
    assert not prepare(FileSource(changed)).from_cache


def test_rows_without_a_fingerprint_are_read_anew(tmp_path: Path, prepare: Prepare) -> None:
    first = prepare(ListSource(records(5), ""))
    changed = prepare(ListSource(records(6), ""))
    again = prepare(ListSource(records(5), ""))
    assert [sum(map(len, ids(data).values())) for data in (first, changed, again)] == [5, 6, 5]
    assert not (first.from_cache or changed.from_cache or again.from_cache)
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_arms_with_variants_keep_ids_and_splits(prepare: Prepare) -> None:
    rows = records(600)
    arms = [
        prepare(rows, variant=variant(name), variant_name=name)
        for name in ("standard", "no_comments", "reverse")
    ]
    assert ids(arms[0]) == ids(arms[1]) == ids(arms[2])
    texts = {
        "".join(map(chr, arm.splits["train"].rows([0])[0].input_ids)).removeprefix("i")[-11:]
        for arm in arms
    }
    assert len(texts) == 3
    found = [arm.splits["train"].statistics for arm in arms]
    assert len({item.ids_fingerprint for item in found}) == 1
    assert len({item.fingerprint for item in found}) == 3


def test_own_split_of_a_row_comes_first(prepare: Prepare) -> None:
    class Source(ListSource):
        def records(self, on_bad: OnBad) -> Iterator[tuple[RawRow, InstructionRecord]]:
            for raw, record in super().records(on_bad):
                yield dataclasses.replace(raw, split="test"), record

    assert ids(prepare(Source(records(50)))) == {
        "train": [],
        "val": [],
        "test": [f"r{i}" for i in range(50)],
    }


def test_progress_counts_every_row(
    tmp_path: Path, builder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = io.StringIO()
    real: Any = vars(preparation_module)["tqdm"]
    options: list[dict[str, Any]] = []

    def bar(rows: Any, **given: Any) -> Any:
        options.append(dict(given))
        return real(rows, **{**given, "delay": 0, "file": shown, "mininterval": 0})

    monkeypatch.setattr(preparation_module, "tqdm", bar)
    settings().run(
        ListSource(records(1300)),
        builder,
        "k",
        TokenCache(tmp_path / "cache"),
        tmp_path / "rejected.jsonl",
    )
    assert options[0]["delay"] == 2
    assert not options[0]["disable"]
    assert "tokenizing: 1300 rows" in shown.getvalue()


class LazySource:
    """Long rows, each made when it is asked for."""

    fingerprint = "lazy"

    def __init__(self, num_rows: int) -> None:
        self.num_rows = num_rows

    def records(self, on_bad: OnBad) -> Iterator[tuple[RawRow, InstructionRecord]]:
        for index in range(self.num_rows):
            text = f"{index} " * 300
            record = InstructionRecord(str(index), instruction="i", output=text)
            yield RawRow({"output": text}, RowLocation("f", index)), record


class ShortBuilder:
    """Three tokens a row, so that only what is held beside the tokens can grow."""

    def __init__(self) -> None:
        self.arrow_peak = 0

    def build(self, rows: list[InstructionRecord]) -> list[TokenizedExample | BadRowError]:
        self.arrow_peak = max(self.arrow_peak, pa.total_allocated_bytes())
        return [TokenizedExample(row.id, [1, 2, 3], [0.0, 1.0, 1.0], 1, True) for row in rows]


def peak_bytes(tmp_path: Path, num_rows: int) -> int:
    source, short = LazySource(num_rows), ShortBuilder()
    cache = TokenCache(tmp_path / f"cache-{num_rows}")
    tracemalloc.start()
    settings().run(source, short, "k", cache, tmp_path / "r.jsonl", progress_bar=False)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak + short.arrow_peak


def test_memory_does_not_grow_with_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Small blocks, so that both runs fill more than one for each split.
    monkeypatch.setattr(split_files, "_ROWS_PER_BLOCK", 128)
    peak_bytes(tmp_path, 600)  # what is imported and compiled on first use
    small, large = peak_bytes(tmp_path, 2_000), peak_bytes(tmp_path, 14_000)
    # Lengths and weights, which planning needs, are 16 bytes a row, and twice that for a moment;
    # each row's text alone has 1,500 bytes.
    assert large - small < 12_000 * 40


@pytest.mark.slow
def test_hundred_thousand_rows_of_a_file(tmp_path: Path, builder: Any) -> None:
    path = write_rows(tmp_path / "rows.jsonl", [(f"instruction {i}", "o") for i in range(100_000)])
    start = time.perf_counter()
    data = settings().run(
        FileSource(path), builder, "k", TokenCache(tmp_path / "c"), tmp_path / "r.jsonl"
    )
    assert time.perf_counter() - start < 60  # 8 s on one idle core, the fake builder included
    assert sum(map(len, data.splits.values())) == 100_000


# --- levels of reasoning that are compared ----------------------------------------------------


class LevelBuilder:
    """A token for the prompt and a target a character of the reasoning; refuses "LONG"."""

    def __init__(self, level: str) -> None:
        self.level = level

    def build(self, rows: Sequence[InstructionRecord]) -> list[TokenizedExample | BadRowError]:
        return [self._example(row) for row in rows]

    def _example(self, row: InstructionRecord) -> TokenizedExample | BadRowError:
        text = row.reasoning.get(self.level, "")
        if "LONG" in text:
            return BadRowError("too long", field="output")
        count = len(text) + 1
        return TokenizedExample(row.id, [1] * (count + 1), [0.0] + [1.0] * count, 1, True)


def levels(simple: str, complex_: str) -> dict[str, str]:
    return {name: text for name, text in (("simple", simple), ("complex", complex_)) if text}


ROWS_WITH_LEVELS = [
    InstructionRecord("both", "i", output="o", reasoning=levels("s", "cccc")),
    InstructionRecord("one", "i", output="o", reasoning=levels("s", "")),
    InstructionRecord("blank", "i", output="o", reasoning=levels("s", "  ")),
    InstructionRecord("long", "i", output="o", reasoning=levels("s", "LONG")),
    InstructionRecord("too", "i", output="o", reasoning=levels("ss", "ccccc")),
]


def at_level(tmp_path: Path, level: str, rows: Any = None, **changes: Any) -> TokenizedData:
    builders = {name: LevelBuilder(name) for name in ("none", "simple", "complex")}
    values: dict[str, Any] = {
        "split_of": lambda _: "train",
        "required_levels": list(builders),
        "level_builders": builders,
        "skip_bad_rows": True,
        **changes,
    }
    rows = ROWS_WITH_LEVELS if rows is None else rows
    return settings(**values).run(
        ListSource(rows, fingerprint=" ".join(row.id for row in rows)),
        builders[level],
        level,
        TokenCache(tmp_path / "cache"),
        tmp_path / "run" / "rejected.jsonl",
        progress_bar=False,
    )


@pytest.mark.parametrize("level", ["none", "simple", "complex"])
def test_every_arm_has_the_rows_that_all_arms_can_use(tmp_path: Path, level: str) -> None:
    for _ in range(2):  # made, and from the cache
        data = at_level(tmp_path, level)
        assert ids(data)["train"] == ["both", "too"]
        assert data.num_target_tokens_by_level == {"none": 2, "simple": 5, "complex": 11}
        assert (
            data.splits["train"].statistics.num_target_tokens
            == (data.num_target_tokens_by_level[level])
        )
        reasons = {row["row_number"]: (row["field"], row["reason"]) for row in rejected(tmp_path)}
        assert sorted(reasons) == [1, 2, 3]
        for number in (1, 2):
            assert reasons[number][0] == "reasoning"
            assert reasons[number][1].startswith("no reasoning at 'complex'; data.require_levels")
        assert "too long" in reasons[3][1]


def test_a_row_without_the_levels_stops_nothing_but_a_row_too_long_does(tmp_path: Path) -> None:
    rows = [row for row in ROWS_WITH_LEVELS if row.id != "long"]
    data = at_level(tmp_path, "simple", rows, skip_bad_rows=False)
    assert (data.num_rejected, ids(data)["train"]) == (2, ["both", "too"])
    with pytest.raises(UserError, match=r"(?s)1 row cannot be used.*cot_level=complex.*too long"):
        at_level(tmp_path, "simple", skip_bad_rows=False)


def test_levels_are_looked_at_before_rows_are_counted(tmp_path: Path) -> None:
    rows = [*ROWS_WITH_LEVELS[1:3], ROWS_WITH_LEVELS[4], ROWS_WITH_LEVELS[0]]
    assert ids(at_level(tmp_path, "simple", rows, limits={"train": 1}))["train"] == ["too"]


def test_no_row_with_all_levels_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none of 2 rows has the reasoning .*generate_cot"):
        at_level(tmp_path, "simple", ROWS_WITH_LEVELS[1:3], skip_bad_rows=False)
