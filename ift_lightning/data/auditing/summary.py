"""From the facts of all rows to the numbers of an audit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ift_lightning.data.auditing.rows import RowFacts
from ift_lightning.data.row_tools import reason_kind
from ift_lightning.types import SPLITS

NOT_STATED = "(not stated)"
_SHOWN = 20  # rows named in a list
_BINS = 40


def summarize(facts: Sequence[RowFacts], max_seq_length: int) -> dict[str, Any]:
    """Return what an audit says, as JSON values.

    Args:
        facts: Of every row that could be read, in the order of reading.
        max_seq_length: The limit in tokens.
    """
    splits: dict[str, Any] = {}
    for split in SPLITS:
        rows = [row for row in facts if row.split == split]
        if rows:
            splits[split] = _split_summary(rows, max_seq_length)
    return {
        "max_seq_length": max_seq_length,
        "num_rows": len(facts),
        "splits": splits,
        "duplicates": duplicates(facts),
        "overlap": {
            split: split_overlap(facts, split) for split in ("val", "test") if split in splits
        },
        "benchmark": benchmark_overlap(facts),
        "languages": _counted(row.language for row in facts),
        "language_sources": _counted(row.language_source for row in facts),
        "categories": _counted(row.category for row in facts),
        "subtypes": _counted(row.subtype for row in facts),
    }


def _counted(values: Iterable[str]) -> dict[str, int]:
    counts = Counter(value or NOT_STATED for value in values)
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _split_summary(rows: list[RowFacts], max_seq_length: int) -> dict[str, Any]:
    used = [row for row in rows if not row.problem]
    # A row that is left out for its length alone still has one.
    lengths = np.array([row.length for row in rows if row.length], dtype=np.int64)
    targets = np.array([row.num_targets for row in rows if row.length], dtype=np.int64)
    num_tokens = sum(row.length - row.num_cut for row in used)
    num_targets = sum(row.num_targets for row in used)
    return {
        "num_rows": len(rows),
        "num_usable": len(used),
        "num_unusable": len(rows) - len(used),
        "unusable": dict(Counter(reason_kind(row.problem) for row in rows if row.problem)),
        "num_tokens": num_tokens,
        "num_target_tokens": num_targets,
        "supervised_share": num_targets / num_tokens if num_tokens else 0.0,
        "num_longer_than_limit": sum(row.is_too_long for row in rows),
        "num_prompts_cut": sum(row.num_cut > 0 for row in used),
        "num_tokens_cut": sum(row.num_cut for row in used),
        "num_without_end": sum(not row.end_is_supervised for row in used),
        "without_end": [row.id for row in used if not row.end_is_supervised][:_SHOWN],
        "length": _distribution(lengths, max_seq_length),
        "target_length": _distribution(targets, None),
    }


def _distribution(values: np.ndarray[Any, Any], limit: int | None) -> dict[str, Any]:
    """Return quantiles and a histogram of whole numbers; the limit is an edge of a bin."""
    if not len(values):
        return {}
    top = max(int(values.max()), limit or 0)
    width = max(1, -(-top // _BINS))
    edges = np.arange(0, top + width + 1, width)
    counts, _ = np.histogram(values, bins=edges)
    quantiles = {
        f"p{share}": float(np.quantile(values, share / 100)) for share in (5, 25, 50, 75, 95, 99)
    }
    return {
        "min": int(values.min()),
        "mean": float(values.mean()),
        **quantiles,
        "max": int(values.max()),
        "histogram": {"edges": edges.tolist(), "counts": counts.tolist()},
    }


def duplicates(facts: Sequence[RowFacts]) -> dict[str, Any]:
    """Count rows that repeat an earlier one, over all splits.

    Returns:
        ``num_exact``: to the letter. ``num_near``: in spelling only (see
        :func:`~ift_lightning.data.normalized_text.normalized`). ``num_same_request``: with the same
        request, once normalised, and another answer. A row counts once, as the first that fits.
    """
    first: dict[bytes, str] = {}
    seen_rows: dict[bytes, str] = {}
    seen_requests: dict[bytes, str] = {}
    counts: Counter[str] = Counter()
    pairs: dict[str, list[list[str]]] = {"exact": [], "near": [], "same_request": []}
    for row in facts:
        for kind, seen, key in (
            ("exact", first, row.exact_key),
            ("near", seen_rows, row.row_key),
            ("same_request", seen_requests, row.request_key),
        ):
            if key in seen:
                counts[kind] += 1
                if len(pairs[kind]) < _SHOWN:
                    pairs[kind].append([seen[key], row.id])
                break
        first.setdefault(row.exact_key, row.id)
        seen_rows.setdefault(row.row_key, row.id)
        seen_requests.setdefault(row.request_key, row.id)
    return {**{f"num_{kind}": counts[kind] for kind in pairs}, "examples": pairs}


def split_overlap(facts: Sequence[RowFacts], split: str) -> dict[str, Any]:
    """Count rows of a split that a model has seen in training.

    Returns:
        ``num_rows``: request and answer are those of a training row, once normalised;
        ``num_requests``: the request is.
    """
    rows: dict[bytes, str] = {}
    requests: dict[bytes, str] = {}
    for row in facts:
        if row.split == "train":
            rows.setdefault(row.row_key, row.id)
            requests.setdefault(row.request_key, row.id)
    own = [row for row in facts if row.split == split]
    seen = [row for row in own if row.request_key in requests]
    return {
        "num_rows": sum(row.row_key in rows for row in own),
        "num_requests": len(seen),
        "share": len(seen) / len(own) if own else 0.0,
        "examples": [[requests[row.request_key], row.id] for row in seen[:_SHOWN]],
    }


def benchmark_overlap(facts: Sequence[RowFacts]) -> dict[str, Any]:
    """Count rows that share a run of words with a benchmark's problem, by split."""
    found = [row for row in facts if row.benchmark is not None]
    return {
        "num_rows": len(found),
        "by_split": dict(Counter(row.split for row in found)),
        "num_problems": len({row.benchmark for row in found}),
        "examples": [[row.benchmark, row.id, row.place] for row in found[:_SHOWN]],
    }
