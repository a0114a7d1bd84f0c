"""``prepare task=audit``: what a config would train on, before anything is trained."""

from __future__ import annotations

import dataclasses
import hashlib
import heapq
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from ift_lightning import assembly
from ift_lightning.config.checks import check_config
from ift_lightning.config.prepare_schema import AuditTaskConfig, PrepareConfig
from ift_lightning.config.schema import DataSource
from ift_lightning.data.auditing.overlap import NgramIndex
from ift_lightning.data.auditing.rows import RowAuditor
from ift_lightning.data.auditing.summary import summarize
from ift_lightning.data.mask_audit import render_sample, sample_pieces
from ift_lightning.data.record_sources import FileSource
from ift_lightning.data.row_tools import map_chunks, reason_kind
from ift_lightning.data.tool_files import json_line, whole_file, write_json
from ift_lightning.errors import UserError
from ift_lightning.reporting.audit_page import audit_page
from ift_lightning.reporting.audit_text import audit_text
from ift_lightning.templating.examples import ExampleBuilder
from ift_lightning.types import InstructionRecord, RejectedRow, TokenizedExample

_NO_LIMIT = 1 << 40
_CHUNK_ROWS = 1024  # with fewer rows, starting processes takes longer than they save


class _Rows:
    """The rows of a config, with the first few by a hash of their ids kept as samples."""

    def __init__(self, config: PrepareConfig, num_samples: int, bar: Any) -> None:
        self._config = config
        self._num_samples = num_samples
        self._bar = bar
        self._kept: list[tuple[int, int, InstructionRecord]] = []
        self.rejected: list[RejectedRow] = []

    def __iter__(self) -> Iterator[tuple[str, str, InstructionRecord]]:
        source = assembly.build_source(self._config.data)
        preparation = assembly.build_preparation(self._config)
        rows = preparation.records(source, self.rejected.append)
        for number, (split, raw, record) in enumerate(rows):
            self._bar.update()
            digest = hashlib.sha256(record.id.encode("utf-8", "surrogatepass")).digest()
            # The heap keeps the smallest hashes: the sample does not depend on the rows' order.
            item = (-int.from_bytes(digest[:8], "big"), -number, record)
            if len(self._kept) < self._num_samples:
                heapq.heappush(self._kept, item)
            elif self._kept and item[:2] > self._kept[0][:2]:
                heapq.heapreplace(self._kept, item)
            # Tests are not looked at, and long to hand over.
            yield split, str(raw.location), dataclasses.replace(record, tests=())

    def samples(self) -> list[InstructionRecord]:
        return [record for _, _, record in sorted(self._kept, reverse=True)]


def audit(config: PrepareConfig, *, num_workers: int) -> dict[str, Any]:
    """Measure the rows of a config, print the numbers, and return them.

    Args:
        config: Its ``model``, ``template`` and ``data`` say what would be trained on.
        num_workers: Processes.

    Raises:
        UserError: Something that was given cannot be used, or there are no rows.
    """
    task = config.task
    assert isinstance(task, AuditTaskConfig)
    config = dataclasses.replace(config, data=_data(config))
    check_config(config)
    builder = assembly.build_example_builder(
        config, assembly.build_tokenizer(config, need_weights=False)
    )
    limit = config.data.max_seq_length
    index = _benchmark(task)
    auditor = RowAuditor(builder, _without_limit(builder), limit, index)
    with tqdm(desc="audit", unit=" rows", disable=not config.progress_bar) as bar:
        rows = _Rows(config, task.num_samples, bar)
        facts = [
            fact
            for chunk in map_chunks(auditor, rows, num_workers=num_workers, chunk_size=_CHUNK_ROWS)
            for fact in chunk
        ]
    if not facts:
        reason = rows.rejected[0].reason if rows.rejected else "there are none"
        raise UserError(f"no row can be used: {reason}")
    result = summarize(facts, limit)
    if index is not None:
        result["benchmark"] |= {
            "file": Path(str(task.benchmark)).name,
            "ngram_size": index.size,
            "num_all_problems": index.num_problems,
            "num_too_short": index.num_too_short,
        }
    report = {**_facts_of(config), **result, **_rejections(rows.rejected)}
    _publish(config, report, rows, _examples(builder, rows.samples()), builder)
    return report


def _data(config: PrepareConfig) -> Any:
    """Return the data options, with ``input`` as the rows' file where it is given."""
    data = dataclasses.replace(config.data, form=config.form, fields=config.fields)
    if not config.input:
        return data
    data = dataclasses.replace(data, path=config.input)
    if data.source in (
        DataSource.drills,
        DataSource.defect_drills,
        DataSource.docstring_drills,
    ):
        # Their numbers say how many rows are generated, and nothing about a file.
        data = dataclasses.replace(
            data, source=DataSource.files, num_train=None, num_val=None, num_test=None
        )
    return data


def _without_limit(builder: ExampleBuilder) -> ExampleBuilder:
    return ExampleBuilder(
        builder.template,
        builder.tokenizer,
        weights=builder.weights,
        max_seq_length=_NO_LIMIT,
        reasoning_level=builder.reasoning_level,
        last_turn_only=builder.last_turn_only,
        allow_special_tokens=builder.allow_special_tokens,
    )


def _benchmark(task: AuditTaskConfig) -> NgramIndex | None:
    if task.benchmark is None:
        return None
    if task.ngram_size < 2:
        raise UserError(f"task.ngram_size={task.ngram_size} has to be at least 2")
    bad: list[RejectedRow] = []
    records = FileSource(Path(task.benchmark).expanduser()).records(bad.append)
    index = NgramIndex((record for _, record in records), task.ngram_size)
    if bad:
        raise UserError(f"task.benchmark: {bad[0].location}: {bad[0].reason}")
    return index


def _facts_of(config: PrepareConfig) -> dict[str, Any]:
    return {
        "task": "audit",
        "model": config.model.name,
        "template": config.template.name,
        "data": config.data.name if not config.input else Path(config.input).name,
        "data_variant": config.data_variant.name,
        "cot_level": config.cot_level.name,
    }


def _rejections(rejected: list[RejectedRow]) -> dict[str, Any]:
    reasons: dict[str, int] = {}
    for row in rejected:
        kind = reason_kind(row.reason)
        reasons[kind] = reasons.get(kind, 0) + 1
    return {"num_rejected": len(rejected), "rejected": reasons}


def _examples(builder: ExampleBuilder, records: list[InstructionRecord]) -> list[TokenizedExample]:
    return [made for made in builder.build(records) if isinstance(made, TokenizedExample)]


def _publish(
    config: PrepareConfig,
    report: dict[str, Any],
    rows: _Rows,
    examples: list[TokenizedExample],
    builder: ExampleBuilder,
) -> None:
    text = audit_text(report)
    print(text)
    color = sys.stdout.isatty()
    for example in examples:
        print(f"--- {example.id}\n{render_sample(example, builder.tokenizer, color=color)}")
    if not config.output:
        return
    folder = Path(config.output).expanduser()
    title = f"{report['data']} with {report['template']} and {report['model']}"
    samples = [(one.id, sample_pieces(one, builder.tokenizer)) for one in examples]
    with whole_file(folder / "report.html") as page:
        page.write(audit_page(report, title, samples))
    with whole_file(folder / "report.txt") as file:
        file.write(text + "\n")
    with whole_file(folder / "rejected.jsonl") as file:
        file.writelines(json_line(row.to_json()) for row in rows.rejected)
    write_json(folder / "report.json", report)
    print(f"written to {folder}: report.html, report.json, report.txt")
