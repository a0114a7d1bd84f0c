"""Raw rows out of JSON, JSON Lines, Parquet and CSV files, or out of the Hugging Face Hub.

Every reader streams: a file is never held as a whole. A row that cannot be read is handed to the
caller's ``on_bad``, which raises or collects; a file that cannot be read is a ``UserError``.
"""

from __future__ import annotations

import codecs
import contextlib
import difflib
import gzip
import hashlib
import io
import json
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal

from ift_lightning.data.csv_rows import iter_csv_rows
from ift_lightning.data.json_stream import (
    OnBad,
    iter_json_lines,
    iter_json_rows,
)
from ift_lightning.errors import UserError
from ift_lightning.types import RawRow, RejectedRow, RowLocation

_TEXT_SUFFIXES = (".json", ".jsonl", ".ndjson", ".csv", ".tsv")
SUFFIXES = (*_TEXT_SUFFIXES, ".parquet", *(suffix + ".gz" for suffix in _TEXT_SUFFIXES))

_PARQUET_BATCH_ROWS = 256

_Opener = Callable[[Path, Literal["rb"]], io.BufferedReader | gzip.GzipFile]

_READ_ERRORS = (OSError, EOFError, zlib.error)

# What else a file turns out to be, by its first bytes, and what to do about it. The byte-order
# mark of UTF-32 begins with that of UTF-16, so it comes first.
_NOT_TEXT = (
    (codecs.BOM_UTF32_LE, "it is UTF-32; convert it: iconv -f UTF-32 -t UTF-8 OLD > NEW"),
    (codecs.BOM_UTF16_LE, "it is UTF-16; convert it: iconv -f UTF-16 -t UTF-8 OLD > NEW"),
    (codecs.BOM_UTF16_BE, "it is UTF-16; convert it: iconv -f UTF-16 -t UTF-8 OLD > NEW"),
    (b"\x1f\x8b", "it is compressed with gzip; add .gz to its name"),
    (b"PAR1", "it is a Parquet file; name it .parquet"),
    (b"PK\x03\x04", "it is a zip archive (or a spreadsheet); unpack it, or export it as CSV"),
    (b"version https://git-lfs", "it is a pointer of Git LFS; fetch the data: git lfs pull"),
)


def find_data_files(path: Path) -> list[Path]:
    """Return the data files that ``path`` names.

    Args:
        path: A file, or a folder that is searched with its subfolders; what is hidden, has
            another suffix than ``SUFFIXES``, or is a data tool's report is passed over there.

    Returns:
        The files in the order of their paths.

    Raises:
        UserError: Nothing is there, or nothing that can be read.
    """
    if path.is_file():
        _suffix(path)
        return [path]
    if not path.is_dir():
        raise UserError(_missing(path))
    inside = sorted(
        file
        for file in path.rglob("*")
        if file.is_file() and not any(part.startswith(".") for part in file.relative_to(path).parts)
    )
    files = [
        file for file in inside if file.name.lower().endswith(SUFFIXES) and not _is_account(file)
    ]
    if not files:
        names = ", ".join(file.name for file in inside[:5]) or "nothing"
        raise UserError(
            f"The folder '{path}' holds no data file (found: {names}). "
            f"Put one there, or name another folder; valid endings: {', '.join(SUFFIXES)}"
        )
    return files


def _is_account(file: Path) -> bool:
    """Return whether a file is the report of a data tool, or the rows that it left out."""
    name = file.name
    if name.endswith("rejected.jsonl"):
        file = file.with_name(name.removesuffix("rejected.jsonl") + "report.json")
    elif not name.endswith("report.json"):
        return False
    try:
        report = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(report, dict) and {"task", "num_rows"} <= report.keys()


def read_rows(files: Sequence[Path], on_bad: OnBad) -> Iterator[RawRow]:
    """Yield the rows of all files, in order.

    Args:
        files: As :func:`find_data_files` returns them.
        on_bad: Takes each row that cannot be read; it raises, or returns to go on without it.

    Raises:
        UserError: A file is missing, empty, damaged, not UTF-8 text, or broken beyond one row.
    """
    for path in files:
        yield from _read_file(path, on_bad)


def fingerprint_files(files: Sequence[Path]) -> str:
    """Return 16 hexadecimal digits of the names, without folders, and contents of the files."""
    digest = hashlib.sha256()
    for path in files:
        name = path.name.encode("utf-8", "surrogatepass")
        digest.update(len(name).to_bytes(8, "big") + name)
        try:
            with path.open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
        except OSError as error:
            raise _unreadable(path, error) from error
    return digest.hexdigest()[:16]


def read_hub_rows(
    repository: str, revision: str, split: str = "train", config: str | None = None
) -> Iterator[RawRow]:
    """Return the rows of a dataset on the Hugging Face Hub, or in its local cache.

    Args:
        repository: The dataset's name, ``owner/name``.
        revision: The commit that is read.
        split: The dataset's own split.
        config: The dataset's own configuration, where it has several.

    Raises:
        UserError: The dataset can neither be downloaded nor found in the cache; raised by the
            call itself, not by the first row.
    """
    import datasets

    try:
        table = datasets.load_dataset(repository, config, revision=revision, split=split)
    # Missing networks, names, revisions and splits come as a dozen types of three libraries.
    except Exception as error:
        raise UserError(
            f"The dataset '{repository}' (revision {revision}, split {split}) could not be loaded "
            f"from the Hugging Face Hub: {type(error).__name__}: {error}. It needs a network "
            "connection, or the dataset in the Hugging Face cache (HF_HOME). Without either, "
            "download its data file elsewhere and give it with data.path=FILE"
        ) from error
    file = f"hub:{repository}@{revision}"
    return (RawRow(values, RowLocation(file, row=i)) for i, values in enumerate(table))


def _missing(path: Path) -> str:
    """Return what to say of a path where nothing is."""
    parent = path.absolute().parent
    message = f"There is no file or folder '{path}' (looked for {path.absolute()}). "
    if not parent.is_dir():
        return f"{message}The folder '{parent}' does not exist either; check data.path"
    names = [entry.name for entry in parent.iterdir() if not entry.name.startswith(".")]
    close = difflib.get_close_matches(path.name, names, n=3)
    if close:
        return message + "Did you mean " + " or ".join(f"'{parent / name}'" for name in close) + "?"
    return message + "Check data.path"


def _suffix(path: Path) -> str:
    """Return the ending that says how to read the file, without ``.gz``."""
    name = path.name.lower()
    for suffix in SUFFIXES:
        if name.endswith(suffix):
            return suffix.removesuffix(".gz")
    raise UserError(
        f"{path}: the ending of its name does not say how to read it. "
        f"Rename it, or convert it; valid endings: {', '.join(SUFFIXES)}"
    )


def _unreadable(path: Path, error: Exception) -> UserError:
    if isinstance(error, FileNotFoundError):
        return UserError(_missing(path))
    if isinstance(error, EOFError | zlib.error | gzip.BadGzipFile):
        return UserError(f"{path}: its gzip data are damaged ({error}); make or download it again")
    return UserError(f"{path}: it cannot be read ({error})")


def _read_file(path: Path, on_bad: OnBad) -> Iterator[RawRow]:
    num_rows = 0

    def count_bad(row: RejectedRow) -> None:
        nonlocal num_rows
        num_rows += 1
        on_bad(row)

    for row in _rows_by_suffix(path, count_bad):
        num_rows += 1
        yield row
    if not num_rows:
        raise UserError(f"{path}: it holds no rows; put some in, or leave the file out")


def _rows_by_suffix(path: Path, on_bad: OnBad) -> Iterator[RawRow]:
    suffix = _suffix(path)
    if suffix == ".parquet":
        yield from _parquet_rows(path)
        return
    with _open_text(path) as stream:
        if suffix == ".json":
            yield from iter_json_rows(stream, str(path), on_bad)
        elif suffix in (".jsonl", ".ndjson"):
            yield from iter_json_lines(stream, str(path), on_bad)
        else:
            yield from iter_csv_rows(stream, str(path), on_bad, "\t" if suffix == ".tsv" else ",")


@contextlib.contextmanager
def _open_text(path: Path) -> Iterator[_TextFile]:
    opener: _Opener = gzip.open if path.name.lower().endswith(".gz") else open
    try:
        stream = opener(path, "rb")
    except OSError as error:
        raise _unreadable(path, error) from error
    with stream:
        file = _TextFile(path, stream)
        file.pass_over_mark()
        yield file


class _TextFile:
    """A file of UTF-8 text whose read errors are ``UserError`` with its name."""

    def __init__(self, path: Path, stream: io.BufferedReader | gzip.GzipFile) -> None:
        self._path = path
        self._stream = stream

    def read(self, size: int, /) -> bytes:
        try:
            return self._stream.read(size)
        except _READ_ERRORS as error:
            raise _unreadable(self._path, error) from error

    def readline(self) -> bytes:
        try:
            return self._stream.readline()
        except _READ_ERRORS as error:
            raise _unreadable(self._path, error) from error

    def pass_over_mark(self) -> None:
        """Go behind the byte-order mark, and raise where the file is no UTF-8 text at all."""
        try:
            start = self._stream.peek(1024)
        except _READ_ERRORS as error:
            raise _unreadable(self._path, error) from error
        for mark, advice in _NOT_TEXT:
            if start.startswith(mark):
                raise UserError(f"{self._path}: {advice}")
        if b"\x00" in start:
            raise UserError(
                f"{self._path}: it has zero bytes, so it is no UTF-8 text. If it is UTF-16, "
                "convert it: iconv -f UTF-16LE -t UTF-8 OLD > NEW"
            )
        if start.startswith(codecs.BOM_UTF8):
            self.read(len(codecs.BOM_UTF8))


def _parquet_rows(path: Path) -> Iterator[RawRow]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    # Text that is not UTF-8 shows only when it becomes a Python string.
    errors = (pa.ArrowException, OSError, UnicodeDecodeError)
    try:
        table = pq.ParquetFile(path)
    except errors as error:
        raise _damaged_parquet(path, error) from error
    with table:
        names = table.schema_arrow.names
        if len(set(names)) != len(names):
            raise UserError(f"{path}: two columns share a name ({', '.join(names)}); rename one")
        batches = table.iter_batches(batch_size=_PARQUET_BATCH_ROWS)
        number = 0
        while True:
            try:
                batch = next(batches, None)
                rows = [] if batch is None else batch.to_pylist()
            except errors as error:
                raise _damaged_parquet(path, error) from error
            if batch is None:
                return
            for values in rows:
                yield RawRow(values, RowLocation(str(path), row=number))
                number += 1


def _damaged_parquet(path: Path, error: Exception) -> UserError:
    if isinstance(error, FileNotFoundError):
        return _unreadable(path, error)
    return UserError(
        f"{path}: it is not a whole Parquet file ({error}); download or write it again"
    )
