"""Entries are whole or not there, whoever is killed and whoever writes at the same time."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import stat
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ift_lightning.data.token_cache import TokenCache, TokenCacheWriter, TokenizedData
from ift_lightning.types import InstructionRecord, RejectedRow, RowLocation, TokenizedExample

NUM_ROWS = {"train": 30, "val": 3, "test": 0}


def fill(writer: TokenCacheWriter, offset: int = 0) -> None:
    for split, count in NUM_ROWS.items():
        for index in range(count):
            record = InstructionRecord(f"{split}-{index}", instruction="i", output=f"o{offset}")
            ids = [index + offset] * (index % 5 + 2)
            weights = [0.0] + [1.0] * (len(ids) - 1)
            writer.add(split, record, TokenizedExample(record.id, ids, weights, 1, True))
    writer.reject(RejectedRow(RowLocation("f.jsonl", 3, 2), "空", "output", {"output": "中"}))


def check(data: TokenizedData | None, offset: int = 0) -> None:
    assert data is not None
    assert {name: len(split) for name, split in data.splits.items()} == NUM_ROWS
    last = data.splits["train"].rows([29])[0]
    assert (last.id, last.input_ids) == ("train-29", [29 + offset] * 6)
    assert data.num_rejected == 1
    lines = data.rejected_path.read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == [
        {
            "file": "f.jsonl",
            "line": 3,
            "row_number": 2,
            "field": "output",
            "reason": "空",
            "row": {"output": "中"},
        }
    ]


@pytest.fixture
def cache(tmp_path: Path) -> TokenCache:
    return TokenCache(tmp_path / "deep" / "cache")


def names(cache: TokenCache) -> list[str]:
    return sorted(path.name for path in cache.root.iterdir())


def test_made_once_and_found_again(cache: TokenCache) -> None:
    assert cache.open("k") is None
    made = cache.make("k", fill)
    check(made)
    assert not made.from_cache
    found = cache.open("k")
    check(found)
    assert found is not None and found.from_cache
    assert {n: s.statistics for n, s in found.splits.items()} == {
        n: s.statistics for n, s in made.splits.items()
    }
    assert names(cache) == ["k"]
    assert cache.open("other") is None


def test_entry_is_as_readable_as_other_files(cache: TokenCache) -> None:
    old = os.umask(0o022)
    try:
        cache.make("k", fill)
    finally:
        os.umask(old)
    assert stat.S_IMODE((cache.root / "k").stat().st_mode) == 0o755


def test_rejected_rows_are_legible_and_any_text_can_be_one(cache: TokenCache) -> None:
    def reject(writer: TokenCacheWriter) -> None:
        fill(writer)
        writer.reject(RejectedRow(RowLocation("f"), "half", row={"output": "\ud800"}))

    data = cache.make("k", reject)
    first, second = data.rejected_path.read_text(encoding="utf-8").splitlines()
    assert "中" in first
    assert json.loads(second)["row"] == {"output": "\ud800"}


def test_nothing_is_left_of_a_failure(cache: TokenCache) -> None:
    def fail(writer: TokenCacheWriter) -> None:
        fill(writer)
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        cache.make("k", fail)
    assert names(cache) == []
    assert cache.open("k") is None


def _write_and_wait(root: Path, ready: Path) -> None:
    def slow(writer: TokenCacheWriter) -> None:
        fill(writer)
        writer.finish()  # everything but the name is there
        ready.touch()
        time.sleep(60)

    TokenCache(root).make("k", slow)


def test_killed_writer_leaves_nothing_usable(cache: TokenCache, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    process = multiprocessing.get_context("fork").Process(
        target=_write_and_wait, args=(cache.root, ready)
    )
    process.start()
    while not ready.exists():
        assert process.is_alive()
        time.sleep(0.01)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert cache.open("k") is None
    assert len(names(cache)) == 1  # what it had written, under a hidden name
    check(cache.make("k", fill))


def _cut_short(folder: Path) -> None:
    path = folder / "train.arrow"
    path.write_bytes(path.read_bytes()[:-40])


def _empty(folder: Path) -> None:
    (folder / "train.arrow").write_bytes(b"")


def _garbage(folder: Path) -> None:
    path = folder / "train.arrow"
    path.write_bytes(b"x" * path.stat().st_size)


def _swap(folder: Path) -> None:
    # The sizes stay right, and the rows are those of another split.
    meta = json.loads((folder / "meta.json").read_text())
    (folder / "val.arrow").rename(folder / "x")
    (folder / "train.arrow").rename(folder / "val.arrow")
    (folder / "x").rename(folder / "train.arrow")
    sizes = meta["num_bytes"]
    sizes["train.arrow"], sizes["val.arrow"] = sizes["val.arrow"], sizes["train.arrow"]
    (folder / "meta.json").write_text(json.dumps(meta))


def _no_file(folder: Path) -> None:
    (folder / "val.arrow").unlink()


def _no_meta(folder: Path) -> None:
    (folder / "meta.json").unlink()


def _broken_meta(folder: Path) -> None:
    (folder / "meta.json").write_text('{"format": 2, "spl')


def _other_meta(folder: Path) -> None:
    (folder / "meta.json").write_text("[]")


def _older_meta(folder: Path) -> None:
    meta = json.loads((folder / "meta.json").read_text())
    (folder / "meta.json").write_text(json.dumps({**meta, "format": 1}))


def _other_statistics(folder: Path) -> None:
    meta = json.loads((folder / "meta.json").read_text())
    meta["splits"]["train"]["num_words"] = 3
    (folder / "meta.json").write_text(json.dumps(meta))


def _no_rejected(folder: Path) -> None:
    (folder / "rejected.jsonl").unlink()


DAMAGES = [
    _cut_short,
    _empty,
    _garbage,
    _swap,
    _no_file,
    _no_meta,
    _broken_meta,
    _other_meta,
    _older_meta,
    _other_statistics,
    _no_rejected,
]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda f: f.__name__.strip("_"))
def test_damaged_entry_is_made_again(cache: TokenCache, damage: Callable[[Path], None]) -> None:
    cache.make("k", fill)
    damage(cache.root / "k")
    assert cache.open("k") is None
    check(cache.make("k", fill))
    check(cache.open("k"))
    assert names(cache) == ["k"]


def test_first_of_two_writers_wins(cache: TokenCache) -> None:
    def while_another_finishes(writer: TokenCacheWriter) -> None:
        fill(writer)
        cache.make("k", fill)
        # Open memory maps of the entry must survive.
        check(cache.open("k"))

    check(cache.make("k", while_another_finishes))
    assert names(cache) == ["k"]


def _make_and_check(root: Path, barrier: object, failures: object) -> None:
    try:
        barrier.wait()  # type: ignore[attr-defined]
        for round_number in range(15):
            check(TokenCache(root).make(f"k{round_number}", fill))
    except BaseException as error:
        failures.put(repr(error))  # type: ignore[attr-defined]
        raise


@pytest.mark.parametrize("broken", [False, True])
def test_concurrent_writers(cache: TokenCache, broken: bool) -> None:
    if broken:
        for round_number in range(15):
            cache.make(f"k{round_number}", fill)
            _empty(cache.root / f"k{round_number}")
    context = multiprocessing.get_context("fork")
    barrier, failures = context.Barrier(4), context.Queue()
    processes = [
        context.Process(target=_make_and_check, args=(cache.root, barrier, failures))
        for _ in range(4)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * 4, failures.get(timeout=1)
    assert names(cache) == sorted(f"k{i}" for i in range(15))
    for i in range(15):
        check(cache.open(f"k{i}"))


def test_rows_that_the_key_does_not_tell_name_the_entry(cache: TokenCache) -> None:
    first = cache.make("k", fill, by_content=True)
    second = cache.make("k", lambda writer: fill(writer, offset=7), by_content=True)
    again = cache.make("k", fill, by_content=True)
    check(first)
    check(second, offset=7)
    check(again)
    assert first.rejected_path == again.rejected_path != second.rejected_path
    assert len(names(cache)) == 2
    assert cache.open("k") is None


def test_entry_that_is_out_of_sight_for_a_moment_is_waited_for(
    cache: TokenCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Another process, which saw a broken entry, may be exchanging it at this moment.
    real, calls = TokenCache.open, iter(range(9))

    def open_late(self: TokenCache, key: str) -> TokenizedData | None:
        return real(self, key) if next(calls) >= 2 else None

    monkeypatch.setattr(TokenCache, "open", open_late)
    check(cache.make("k", fill))


def test_what_cannot_be_renamed_is_an_error(
    cache: TokenCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, target: Path) -> Path:
        raise PermissionError(13, "no")

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(PermissionError):
        cache.make("k", fill)
    assert names(cache) == []
