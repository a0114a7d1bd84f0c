"""Measures the comment stripper: what it removes, what it leaves, how fast it is.

    python experiments/comment_stripping/measure.py library [--docstrings] [--workers N]
    python experiments/comment_stripping/measure.py rows ROWS.json [--workers N]
    python experiments/comment_stripping/measure.py drills [--count N] [--workers N]

What ``library`` says about syntax trees and comments left is found out here, by ``ast.dump`` and
``tokenize``, and does not rest on the stripper's own proof.
"""

from __future__ import annotations

import argparse
import ast
import io
import json
import sysconfig
import time
import tokenize
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from ift_lightning.data.comments import (
    StripOptions,
    StripStatus,
    strip_code,
    strip_records,
)
from ift_lightning.data.drills import generate_drills
from ift_lightning.types import InstructionRecord


def library_files() -> Iterator[tuple[Path, str]]:
    """Yield the standard library's modules; those that are no UTF-8 text are named instead."""
    root = Path(sysconfig.get_paths()["stdlib"])
    for path in sorted(root.rglob("*.py")):
        if "site-packages" in path.parts:
            continue
        try:
            yield path, path.read_bytes().decode("utf-8")
        except UnicodeDecodeError:
            print(f"not UTF-8: {path.relative_to(root)}")


def dumped(code: str, *, docstrings: bool = True) -> str | None:
    """Return the syntax tree as text, without docstrings where asked to; None if there is none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    if not docstrings:
        for node in ast.walk(tree):
            if not isinstance(
                node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
            ):
                continue
            while ast.get_docstring(node, clean=False) is not None:
                del node.body[0]
            node.body = node.body or [ast.Pass()]
    return ast.dump(tree)


def num_comments(code: str) -> int:
    tokens = tokenize.generate_tokens(io.StringIO(code).readline)
    return sum(token.type == tokenize.COMMENT for token in tokens)


def measure_library(docstrings: bool, workers: int | None) -> None:
    files = list(library_files())
    num_bytes = sum(len(code.encode()) for _, code in files)
    began = time.process_time()
    results = [strip_code("python", code, strip_docstrings=docstrings) for _, code in files]
    seconds = time.process_time() - began
    statuses, counts = Counter(result.status.value for result in results), Counter[str]()
    num_changed_trees = num_left = num_not_idempotent = 0
    for (path, code), result in zip(files, results, strict=True):
        counts.update(result.counts)
        if result.status in (StripStatus.NOT_PARSABLE, StripStatus.PROOF_FAILED):
            print(f"{result.status}: {path.name}: {result.reason}")
            continue
        reads_own = "kept:docstrings the code reads" in result.counts
        keeps = not docstrings or reads_own
        if dumped(code, docstrings=keeps) != dumped(result.text, docstrings=keeps):
            num_changed_trees += 1
        kept = sum(
            number
            for kind, number in result.counts.items()
            if kind.startswith("kept:") and "docstrings" not in kind
        )
        if result.status is StripStatus.CHANGED or kept:
            num_left += num_comments(result.text) - kept
        again = strip_code("python", result.text, strip_docstrings=docstrings)
        num_not_idempotent += again.text != result.text
    show("files", {"files": len(files), "MB": round(num_bytes / 1e6, 2), **statuses})
    show("counts", counts)
    show(
        "checks",
        {
            "syntax trees changed": num_changed_trees,
            "comments left, besides those counted as kept": num_left,
            "files that change when stripped again": num_not_idempotent,
        },
    )
    print(f"one core: {seconds:.1f} s of CPU time, {num_bytes / 1e6 / seconds * 60:.0f} MB/min")
    records = [InstructionRecord(str(path), output=code, language="python") for path, code in files]
    began = time.perf_counter()
    options = StripOptions(strip_docstrings=docstrings)
    texts = [
        outcome.record.output
        for outcome in strip_records(records, options, num_workers=workers, chunk_size=16)
    ]
    elapsed = time.perf_counter() - began
    assert texts == [result.text for result in results]
    print(
        f"strip_records: {elapsed:.1f} s, {num_bytes / 1e6 / elapsed * 60:.0f} MB/min, same texts"
    )


def measure_records(records: Iterable[InstructionRecord], workers: int | None) -> None:
    rows = list(records)
    began = time.perf_counter()
    outcomes = list(strip_records(rows, num_workers=workers))
    elapsed = time.perf_counter() - began
    counts: Counter[str] = Counter()
    for outcome in outcomes:
        counts.update(outcome.counts)
    assert [outcome.record.id for outcome in outcomes] == [row.id for row in rows]
    print(f"{len(rows)} rows in {elapsed:.1f} s")
    show("rows", Counter(outcome.status.value for outcome in outcomes))
    show("counts", counts)


def show(title: str, values: dict[str, int] | dict[str, float] | Counter[str]) -> None:
    print(f"\n| {title} | |\n|---|---|")
    for name, value in values.items() if title == "checks" else sorted(values.items()):
        print(f"| {name} | {value:,} |")
    print()


def read_rows(path: Path) -> Iterator[InstructionRecord]:
    for index, row in enumerate(json.loads(path.read_text(encoding="utf-8"))):
        texts = {name: row.get(name, "") for name in ("instruction", "input", "output")}
        yield InstructionRecord(id=str(index), language=row.get("language", ""), **texts)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("what", choices=["library", "rows", "drills"])
    parser.add_argument("path", nargs="?", type=Path, help="a JSON list of Alpaca rows")
    parser.add_argument("--docstrings", action="store_true", help="strip docstrings too")
    parser.add_argument("--count", type=int, default=20_000, help="number of drills")
    parser.add_argument(
        "--workers", type=int, default=None, help="processes; one a core by default"
    )
    arguments = parser.parse_args()
    if arguments.what == "library":
        measure_library(arguments.docstrings, arguments.workers)
    elif arguments.what == "rows":
        measure_records(read_rows(arguments.path), arguments.workers)
    else:
        measure_records(generate_drills("train", arguments.count), arguments.workers)


if __name__ == "__main__":
    main()
