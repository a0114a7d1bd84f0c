"""An audit in words, for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_SHOWN = 8


def audit_text(audit: Mapping[str, Any]) -> str:
    """Return the numbers of an audit as lines of text.

    Args:
        audit: As :func:`ift_lightning.data.auditing.summary.summarize` returns it.
    """
    lines = []
    for split, numbers in audit["splits"].items():
        lines += _split_lines(split, numbers, audit["max_seq_length"])
    same = audit["duplicates"]
    lines.append(
        f"duplicates  {same['num_exact']:,} to the letter, {same['num_near']:,} in spelling only, "
        f"{same['num_same_request']:,} with the same request and another answer"
    )
    for split, numbers in audit["overlap"].items():
        lines.append(
            f"overlap     {numbers['num_requests']:,} {split} rows ask what a training row asks "
            f"({numbers['share']:.2%}), {numbers['num_rows']:,} of them with the same answer"
        )
    benchmark = audit["benchmark"]
    if "file" in benchmark:
        lines.append(
            f"benchmark   {benchmark['num_rows']:,} rows share {benchmark['ngram_size']} words "
            f"in a row with {benchmark['num_problems']:,} of the "
            f"{benchmark['num_all_problems']:,} problems of {benchmark['file']}"
        )
    for name in ("languages", "categories", "subtypes"):
        counts = audit[name]
        if list(counts) == ["(not stated)"]:
            continue
        shown = ", ".join(f"{key} {count:,}" for key, count in list(counts.items())[:_SHOWN])
        more = f", and {len(counts) - _SHOWN:,} more" if len(counts) > _SHOWN else ""
        lines.append(f"{name:<11} {shown}{more}")
    if audit["num_rejected"]:
        reasons = "; ".join(f"{count:,}: {why}" for why, count in audit["rejected"].items())
        lines.append(f"unreadable  {audit['num_rejected']:,} ({reasons})")
    return "\n".join(lines)


def _split_lines(split: str, numbers: Mapping[str, Any], limit: int) -> list[str]:
    lines = [
        f"{split:<11} {numbers['num_rows']:,} rows, {numbers['num_usable']:,} of them usable; "
        f"{numbers['num_tokens']:,} tokens, {numbers['supervised_share']:.1%} supervised"
    ]
    length = numbers["length"]
    if length:
        lines.append(
            f"{'':<11} length {length['min']:,} to {length['max']:,} tokens, median "
            f"{length['p50']:,.0f}, 95 % up to {length['p95']:,.0f}; "
            f"{numbers['num_longer_than_limit']:,} longer than {limit:,}, "
            f"{numbers['num_prompts_cut']:,} prompts cut"
        )
    lines.append(f"{'':<11} {numbers['num_without_end']:,} rows do not teach the model to stop")
    lines += [f"{'':<11} {count:,} unusable: {why}" for why, count in numbers["unusable"].items()]
    return lines
