"""Reading raw rows: every layout with its lines, and every way a file can be bad."""

from __future__ import annotations

import gzip
import io
import json
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ift_lightning.data.json_stream import iter_json_rows
from ift_lightning.data.sources import (
    find_data_files,
    fingerprint_files,
    read_hub_rows,
    read_rows,
)
from ift_lightning.errors import UserError
from ift_lightning.types import RawRow, RejectedRow

ROWS = [{"instruction": "add", "output": "a + b"}, {"instruction": "初", "output": "line\nline"}]


def refuse(row: RejectedRow) -> None:
    raise AssertionError(f"no bad row expected, got {row}")


def read(path: Path) -> tuple[list[RawRow], list[RejectedRow]]:
    bad: list[RejectedRow] = []
    return list(read_rows([path], bad.append)), bad


def write(path: Path, content: str | bytes) -> Path:
    data = content.encode("utf-8") if isinstance(content, str) else content
    path.write_bytes(gzip.compress(data) if path.name.endswith(".gz") else data)
    return path


def as_json(rows: list[dict[str, str]]) -> str:
    return json.dumps(rows, ensure_ascii=False, indent=2)


def as_lines(rows: list[dict[str, str]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def as_csv(delimiter: str) -> Callable[[list[dict[str, str]]], str]:
    def build(rows: list[dict[str, str]]) -> str:
        table = [list(rows[0]), *(list(row.values()) for row in rows)]
        return "".join(delimiter.join(f'"{cell}"' for cell in line) + "\r\n" for line in table)

    return build


TEXT_FORMATS = [
    (".json", as_json, [2, 6]),
    (".jsonl", as_lines, [1, 2]),
    (".ndjson", as_lines, [1, 2]),
    (".csv", as_csv(","), [2, 3]),
    (".tsv", as_csv("\t"), [2, 3]),
]


@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"], ids=["plain", "bom"])
@pytest.mark.parametrize("packed", ["", ".gz"])
@pytest.mark.parametrize(("suffix", "build", "lines"), TEXT_FORMATS, ids=lambda v: str(v)[:6])
def test_text_formats_give_rows_with_lines(
    tmp_path: Path,
    suffix: str,
    build: Callable[[list[dict[str, str]]], str],
    lines: list[int],
    packed: str,
    bom: bytes,
) -> None:
    path = write(tmp_path / f"rows{suffix}{packed}", bom + build(ROWS).encode())
    rows, bad = read(path)
    assert [row.values for row in rows] == ROWS
    assert [row.location.line for row in rows] == lines
    assert [row.location.row for row in rows] == [0, 1]
    assert {row.location.file for row in rows} == {str(path)}
    assert not bad


def test_parquet_gives_rows_with_their_numbers(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    rows = [
        {"id": i, "messages": [{"role": "user", "content": "x"}], "note": None} for i in range(600)
    ]
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=100)
    found, bad = read(path)
    assert [row.values for row in found] == rows
    assert [row.location.row for row in found] == list(range(600))
    assert found[0].location.line is None
    assert str(found[7].location) == f"{path} (row 7)"
    assert not bad


# --- JSON ---------------------------------------------------------------------------------------

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    # Characters of one to four bytes, those that JSON escapes, and line ends that are none to it.
    | st.text(alphabet='aé初😀"\\\n\r\t\u2028{}[],:'),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)
blanks = st.text(alphabet=" \n\t\r", max_size=4)
indents = st.sampled_from([None, 0, 2])


@st.composite
def json_arrays(draw: st.DrawFn) -> tuple[str, list[int]]:
    """Return the text of an array, and the lines on which its elements start."""
    text = draw(blanks) + "["
    lines: list[int] = []
    for i, value in enumerate(draw(st.lists(json_values, max_size=5))):
        text += ("," if i else "") + draw(blanks)
        lines.append(text.count("\n") + 1)
        text += json.dumps(value, ensure_ascii=draw(st.booleans()), indent=draw(indents))
        text += draw(blanks)
    return text + "]" + draw(blanks), lines


@settings(deadline=None, max_examples=150)
@given(json_arrays(), st.sampled_from([1, 2, 3, 5, 16, 64, 1 << 16]))
def test_array_stream_equals_json_load(array: tuple[str, list[int]], window_bytes: int) -> None:
    text, lines = array
    bad: list[RejectedRow] = []
    stream = io.BytesIO(text.encode())
    rows = list(iter_json_rows(stream, "rows.json", bad.append, window_bytes))
    found: dict[int, tuple[Any, int | None]] = {}
    for row in rows:
        assert row.location.row is not None
        found[row.location.row] = (row.values, row.location.line)
    for other in bad:
        assert other.location.row is not None
        assert not isinstance(other.row, dict)
        found[other.location.row] = (other.row, other.location.line)
    expected = json.loads(text)
    assert [found[i] for i in range(len(found))] == list(zip(expected, lines, strict=True))


@settings(deadline=None, max_examples=150)
@given(json_arrays(), st.data(), st.sampled_from([1, 3, 16, 1 << 16]))
def test_cut_or_damaged_array_never_reads_as_whole(
    array: tuple[str, list[int]], data: st.DataObject, window_bytes: int
) -> None:
    whole = array[0].strip()
    cut = whole[: data.draw(st.integers(1, len(whole) - 1))]
    with pytest.raises(UserError, match=r"rows\.json:\d+:\d+: broken JSON"):
        list(iter_json_rows(io.BytesIO(cut.encode()), "rows.json", lambda row: None, window_bytes))


@pytest.mark.parametrize("window_bytes", [1, 7, 1 << 16])
@pytest.mark.parametrize(
    ("text", "line", "column", "words"),
    [
        ('[{"a": 1},\n {"a" 2}]', 2, 7, "':' delimiter"),
        ('[{"a": 1}\n {"a": 2}]', 2, 2, "expected ','"),
        ('[{"a": 1},\n]', 2, 1, "comma after the last row"),
        ('[{"a": 1}]\n[]', 2, 1, "text after the end"),
        ('[{"a": 1},\n {"a": tru', 2, 8, "cut off"),
        ('[{"a": 1},\n {"a": "x', 2, 8, "cut off"),
        ('[{"a": 1}', 1, 10, "no end"),
        ("[\n{'a': 1}]", 2, 2, "double quotes"),
        ('[{"a": "x\ty"}]' + " " * 40, 1, 10, "control character"),
        ('"text"', 1, 1, "expected '['"),
        ('{"a": 1}\n{"a": 2\n', 3, 1, "cut off"),
        ('{"a": 1}\n]', 2, 1, "another row"),
    ],
)
def test_broken_json_array_names_the_place(
    text: str, line: int, column: int, words: str, window_bytes: int
) -> None:
    stream = io.BytesIO(text.encode())
    with pytest.raises(UserError) as error:
        list(iter_json_rows(stream, "rows.json", refuse, window_bytes))
    assert str(error.value).startswith(f"rows.json:{line}:{column}: broken JSON")
    assert words in str(error.value)
    assert ".jsonl" in str(error.value)


@pytest.mark.parametrize("window_bytes", [1, 1 << 16])
def test_json_array_in_another_encoding_names_the_place(window_bytes: int) -> None:
    data = '[{"a": "x"},\n {"é": "'.encode() + "初".encode("gbk") + b'"}]'
    with pytest.raises(UserError, match=r"byte 0xB3 at line 2, column 9 .* iconv"):
        list(iter_json_rows(io.BytesIO(data), "rows.json", refuse, window_bytes))


def test_single_object_is_one_row_and_objects_may_follow(tmp_path: Path) -> None:
    chat = {"messages": [{"role": "user", "content": "x"}]}
    rows, _ = read(write(tmp_path / "one.json", json.dumps(chat, indent=1)))
    assert [(row.values, row.location.line) for row in rows] == [(chat, 1)]
    rows, _ = read(write(tmp_path / "lines.json", "\n" + as_lines(ROWS)))
    assert [(row.values, row.location.line) for row in rows] == [(ROWS[0], 2), (ROWS[1], 3)]


def test_rows_wrapped_in_an_object_are_refused_with_a_hint(tmp_path: Path) -> None:
    path = write(tmp_path / "wrapped.json", json.dumps({"version": 1, "data": ROWS}))
    with pytest.raises(UserError, match=r"wrapped\.json.*'data'.*jq"):
        read(path)


@pytest.mark.parametrize("name", ["rows.json", "rows.jsonl"])
def test_constants_and_non_objects_are_bad_rows(tmp_path: Path, name: str) -> None:
    good = '{"a": 1}'
    lines = [good, '{"a": {"b": [0, NaN]}}', '{"a": -Infinity}', '"text"', "null", "[1]", good]
    text = "[" + ",\n".join(lines) + "]" if name.endswith("json") else "\n".join(lines)
    rows, bad = read(write(tmp_path / name, text))
    assert [row.location.line for row in rows] == [1, 7]
    assert [(row.location.line, row.field) for row in bad] == [
        (2, "a.b[1]"),
        (3, "a"),
        (4, None),
        (5, None),
        (6, None),
    ]
    words = ["'a.b[1]' is NaN", "'a' is -Infinity", "is a string", "is null", "is a list"]
    assert all(word in row.reason for word, row in zip(words, bad, strict=True))
    json.dumps([row.to_json() for row in bad], allow_nan=False)


def test_deep_nesting_and_endless_numbers_are_no_crash(tmp_path: Path) -> None:
    deep, long = "[" * 200_000, "1" * 10_000
    rows, bad = read(write(tmp_path / "rows.jsonl", f'{deep}\n{{"a": {long}}}\n{{"a": 1}}'))
    assert [row.location.line for row in rows] == [3]
    assert [row.location.line for row in bad] == [1, 2]
    for inner in (deep, long + "]"):
        with pytest.raises(UserError, match="broken JSON"):
            read(write(tmp_path / "rows.json", f"[{inner}"))


def test_bad_json_lines_cost_only_themselves(tmp_path: Path) -> None:
    lines = [
        b'{"a": 1}',
        b"",
        b'{"a": 2',
        b'{"a": "caf\xe9"}',
        b'{"a": 3},',
        b'{"a": "\xe2\x80\xa8"}\r',
        b"   ",
        b'{"a": 4}',
    ]
    rows, bad = read(write(tmp_path / "rows.jsonl", b"\n".join(lines)))
    assert [(row.location.line, row.location.row) for row in rows] == [(1, 0), (6, 4), (8, 5)]
    assert rows[1].values == {"a": "\u2028"}
    assert [row.location.line for row in bad] == [3, 4, 5]
    assert "column 8" in bad[0].reason
    assert "byte 0xE9 at line 4, column 11" in bad[1].reason and "iconv" in bad[1].reason
    assert bad[1].row == '{"a": "caf\\xe9"}\n'
    assert "nothing after it" in bad[2].reason
    assert bad[2].row == '{"a": 3},'


def test_array_named_jsonl_says_how_to_name_it(tmp_path: Path) -> None:
    _, bad = read(write(tmp_path / "rows.jsonl", as_json(ROWS)))
    assert "must be named .json" in bad[0].reason


def test_on_bad_may_stop_the_reading(tmp_path: Path) -> None:
    def stop(row: RejectedRow) -> None:
        raise OSError("disk full")

    path = write(tmp_path / "rows.jsonl", "{\n")
    with pytest.raises(OSError, match="disk full"):  # and not "the file cannot be read"
        list(read_rows([path], stop))


class JsonArray:
    """A file that is made while it is read: ``num_rows`` rows of one thousand bytes each."""

    def __init__(self, num_rows: int) -> None:
        row = json.dumps({"instruction": "x" * 400, "output": "y" * 562}).encode()
        self._pieces: Iterator[bytes] = (
            (b"[" if i == 0 else b",") + row + (b"]" if i == num_rows - 1 else b"\n")
            for i in range(num_rows)
        )

    def read(self, size: int, /) -> bytes:
        data = b""
        for piece in self._pieces:
            data += piece
            if len(data) >= size:
                break
        return data

    def readline(self) -> bytes:
        raise NotImplementedError


def test_memory_does_not_grow_with_the_json_array() -> None:
    tracemalloc.start()
    try:
        num_rows = sum(1 for _ in iter_json_rows(JsonArray(20_000), "rows.json", refuse))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert num_rows == 20_000
    assert peak < 1_000_000


def test_broken_json_early_in_a_long_file_is_found_early() -> None:
    class Endless:
        num_read = 0

        def read(self, size: int, /) -> bytes:
            self.num_read += size
            assert self.num_read < 1 << 20
            return b'[{"a": 1} {"a": 2},'.ljust(size)

        def readline(self) -> bytes:
            raise NotImplementedError

    with pytest.raises(UserError, match="expected ','"):
        list(iter_json_rows(Endless(), "rows.json", refuse))


# --- CSV ----------------------------------------------------------------------------------------


def test_csv_cells_over_several_lines_and_large_cells(tmp_path: Path) -> None:
    large = "x" * 300_000
    text = f'\ninstruction,output\nadd,"one\n\ntwo"\n\n"a ""b"", c",{large}\nlast,1'
    rows, bad = read(write(tmp_path / "rows.csv", text))
    assert not bad
    assert [(row.location.line, row.location.row) for row in rows] == [(3, 0), (7, 1), (8, 2)]
    assert [row.values["output"] for row in rows] == ["one\n\ntwo", large, "1"]
    assert rows[1].values["instruction"] == 'a "b", c'


def test_bad_csv_rows_cost_only_themselves(tmp_path: Path) -> None:
    lines = [
        b"instruction,output",
        b"add,1",
        b"add,1,2",
        b'add,"caf\xe9',
        b'second line"',
        b"add",
        b'"add"x,1',
        b"last,2",
    ]
    rows, bad = read(write(tmp_path / "rows.csv", b"\n".join(lines)))
    assert [(row.location.line, row.location.row) for row in rows] == [(2, 0), (8, 5)]
    assert [row.location.line for row in bad] == [3, 4, 6, 7]
    assert "3 cells but the header has 2" in bad[0].reason
    assert "byte 0xE9 at line 4, column 9" in bad[1].reason
    assert bad[1].row == 'add,"caf\\xe9\nsecond line"\n'
    assert "1 cells" in bad[2].reason
    assert "broken CSV" in bad[3].reason


def test_csv_quote_without_end_is_no_row(tmp_path: Path) -> None:
    rows, bad = read(write(tmp_path / "rows.csv", 'a,b\n1,2\n3,"4\n5,6\n7,8\n'))
    assert len(rows) == 1
    assert bad[0].location.line == 3
    assert "lines 3 to 5" in bad[0].reason
    assert bad[0].row == '3,"4\n5,6\n7,8\n'


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a,b,a\n1,2,3\n", "'a'"),
        ("a;b\n1;2\n", "separate cells by commas"),
        (b"caf\xe9,b\n1,2\n", "byte 0xE9 at line 1"),
        ('"a"x,b\n1,2\n', "broken CSV"),
    ],
)
def test_csv_header_that_cannot_serve(tmp_path: Path, text: str | bytes, words: str) -> None:
    with pytest.raises(UserError, match=r"rows\.csv:1") as error:
        read(write(tmp_path / "rows.csv", text))
    assert words in str(error.value)


# --- whole files --------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".csv", ".tsv", ".json.gz"])
@pytest.mark.parametrize("content", ["", "\n \n", "\ufeff"])
def test_empty_text_file(tmp_path: Path, suffix: str, content: str) -> None:
    if suffix in (".csv", ".tsv"):
        content = content.replace("\n \n", "instruction,output\n")
    with pytest.raises(UserError, match=r"rows\..*holds no rows"):
        read(write(tmp_path / f"rows{suffix}", content))


def test_empty_array_and_empty_table(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    pq.write_table(pa.table({"instruction": pa.array([], pa.string())}), tmp_path / "rows.parquet")
    for path in (write(tmp_path / "rows.json", " [ ]\n"), tmp_path / "rows.parquet"):
        with pytest.raises(UserError, match="holds no rows"):
            read(path)


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".csv"])
@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-16-le", "utf-32"])
def test_utf16_is_named_with_its_cure(tmp_path: Path, suffix: str, encoding: str) -> None:
    path = write(tmp_path / f"rows{suffix}", as_lines(ROWS).encode(encoding))
    with pytest.raises(UserError, match=rf"rows\{suffix}.*UTF-(16|32).*iconv"):
        read(path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (gzip.compress(b"[]"), r"add \.gz"),
        (b"PAR1....", r"name it \.parquet"),
        (b"PK\x03\x04....", "zip"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    ],
)
def test_other_files_under_a_wrong_name(tmp_path: Path, content: bytes, words: str) -> None:
    with pytest.raises(UserError, match=rf"rows\.jsonl: .*{words}"):
        read(write(tmp_path / "rows.jsonl", content))


def test_damaged_gzip(tmp_path: Path) -> None:
    # Incompressible text, so that what is cut off is text and not only the checksum.
    text = as_lines([{"a": fingerprint} for fingerprint in map(str, range(50_000))])
    packed = gzip.compress(text.encode())
    path = tmp_path / "rows.jsonl.gz"
    for data in (packed[: len(packed) // 2], text.encode(), packed[:5], packed[:-9] + b"\0" * 9):
        path.write_bytes(data)
        with pytest.raises(UserError, match=r"rows\.jsonl\.gz: its gzip data are damaged"):
            read(path)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1" + b"\0" * 40 + b"PAR1", b"[{}]"])
def test_damaged_parquet(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(UserError, match=r"rows\.parquet: it is not a whole Parquet file"):
        read(write(tmp_path / "rows.parquet", content))


def test_parquet_text_that_is_not_utf8(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    text = pa.Array.from_buffers(
        pa.string(), 1, [None, pa.py_buffer(b"\0\0\0\0\2\0\0\0"), pa.py_buffer(b"\xe9x")]
    )
    pq.write_table(pa.table({"a": text}), tmp_path / "rows.parquet")
    with pytest.raises(UserError, match=r"rows\.parquet.*utf-8"):
        read(tmp_path / "rows.parquet")


def test_parquet_columns_of_one_name(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    table = pa.Table.from_arrays([pa.array(["x"]), pa.array(["y"])], names=["a", "a"])
    pq.write_table(table, tmp_path / "rows.parquet")
    with pytest.raises(UserError, match="share a name"):
        read(tmp_path / "rows.parquet")


# --- finding and naming files -------------------------------------------------------------------


def test_folder_is_searched_in_order(tmp_path: Path) -> None:
    names = ["b.jsonl", "a/z.CSV", "a/y.json.gz", "c.parquet", "d.tsv"]
    others = [".hidden.json", ".cache/x.json", "README.md", "a/notes.txt", "x.json.zst"]
    for name in names + others:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("[]")
    found = [path.relative_to(tmp_path).as_posix() for path in find_data_files(tmp_path)]
    assert found == ["a/y.json.gz", "a/z.CSV", "b.jsonl", "c.parquet", "d.tsv"]
    assert find_data_files(tmp_path / "b.jsonl") == [tmp_path / "b.jsonl"]


def test_missing_path_suggests_its_neighbour(tmp_path: Path) -> None:
    (tmp_path / "code_alpaca.json").write_text("[]")
    with pytest.raises(UserError, match=r"no file or folder.*Did you mean '.*code_alpaca\.json'"):
        find_data_files(tmp_path / "code_alpacca.json")
    with pytest.raises(UserError, match=r"Check data\.path"):
        find_data_files(tmp_path / "zzz")
    with pytest.raises(UserError, match=r"folder '.*nowhere' does not exist"):
        find_data_files(tmp_path / "nowhere" / "rows.json")
    with pytest.raises(UserError, match="no file or folder"):
        read(tmp_path / "gone.json")
    with pytest.raises(UserError, match="no file or folder"):
        read(tmp_path / "gone.parquet")


def test_folder_without_data_and_unknown_suffix(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="found: nothing"):
        find_data_files(tmp_path)
    path = write(tmp_path / "rows.txt", "x")
    with pytest.raises(UserError, match=r"found: rows\.txt.*\.jsonl"):
        find_data_files(tmp_path)
    with pytest.raises(UserError, match=r"rows\.txt.*\.parquet"):
        find_data_files(path)


def test_fingerprint_is_of_names_and_contents(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
    one = write(tmp_path / "one" / "a.json", "[1]")
    two = write(tmp_path / "two" / "a.json", "[1]")
    other = write(tmp_path / "two" / "b.json", "[1]")
    print_of_one = fingerprint_files([one])
    assert len(print_of_one) == 16 and int(print_of_one, 16) >= 0
    assert print_of_one == fingerprint_files([two])
    assert len({print_of_one, fingerprint_files([other]), fingerprint_files([one, other])}) == 3
    write(two, "[2]")
    assert print_of_one != fingerprint_files([two])
    with pytest.raises(UserError, match="no file or folder"):
        fingerprint_files([tmp_path / "gone.json"])


# --- the hub ------------------------------------------------------------------------------------


def test_hub_rows_carry_name_and_revision(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def load_dataset(*args: Any, **kwargs: Any) -> list[dict[str, str]]:
        asked.append((args, kwargs))
        return ROWS

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    rows = list(read_hub_rows("owner/name", "abc", split="test", config="full"))
    assert [row.values for row in rows] == ROWS
    assert asked == [(("owner/name", "full"), {"revision": "abc", "split": "test"})]
    assert str(rows[1].location) == "hub:owner/name@abc (row 1)"


def test_hub_out_of_reach_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def load_dataset(*args: Any, **kwargs: Any) -> None:
        raise ConnectionError("offline")

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    with pytest.raises(UserError) as error:
        read_hub_rows("owner/name", "abc")
    for words in ("owner/name", "abc", "network", "cache", "data.path=FILE", "offline"):
        assert words in str(error.value)
