"""Examples come back as they were written, without being held in memory."""

from __future__ import annotations

import dataclasses
import pickle
import subprocess
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ift_lightning.data import split_files
from ift_lightning.data.split_files import SplitStatistics, SplitWriter, TokenizedSplit
from ift_lightning.types import InstructionRecord, Message, TokenizedExample

MakeSplit = Callable[..., TokenizedSplit]

EXAMPLES = st.builds(
    lambda name, tokens, prompt, end, cut: TokenizedExample(
        id=name,
        input_ids=[token for token, _ in tokens],
        loss_weights=[weight for _, weight in tokens],
        num_prompt_tokens=prompt,
        end_is_supervised=end,
        num_cut_tokens=cut,
    ),
    st.text(st.characters(exclude_categories=["Cs"])),
    st.lists(
        st.tuples(st.integers(0, 2**31 - 1), st.floats(0, 100, width=32)), min_size=1, max_size=9
    ),
    st.integers(0, 99),
    st.booleans(),
    st.integers(0, 3),
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(EXAMPLES, max_size=12), st.sampled_from([(1, 99), (3, 99), (99, 5), (99, 999)]))
def test_examples_come_back(
    tmp_path: Path, examples: list[TokenizedExample], block: tuple[int, int]
) -> None:
    path = tmp_path / "split.arrow"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(split_files, "_ROWS_PER_BLOCK", block[0])
        patch.setattr(split_files, "_TOKENS_PER_BLOCK", block[1])
        writer = SplitWriter(path)
        for example in examples:
            writer.add(InstructionRecord(example.id), example)
        writer.close()
    split = TokenizedSplit(path, writer.statistics)
    assert split.rows(range(len(split))) == examples
    assert split.rows(reversed(range(len(split)))) == examples[::-1]
    assert [split.id_of(i) for i in range(len(split))] == [item.id for item in examples]
    assert split.lengths.tolist() == [len(item.input_ids) for item in examples]
    assert split.weights.tolist() == [sum(item.loss_weights) for item in examples]
    assert [str(a.dtype) for a in (split.lengths, split.weights)] == ["int64", "float64"]
    counts = split.statistics
    assert counts.num_rows == len(examples)
    assert counts.num_tokens == sum(len(item.input_ids) for item in examples)
    assert counts.num_target_tokens == sum(item.num_target_tokens for item in examples)
    assert counts.num_truncated == sum(item.num_cut_tokens > 0 for item in examples)
    assert counts.num_ends_supervised == sum(item.end_is_supervised for item in examples)
    assert counts.longest == max((len(item.input_ids) for item in examples), default=0)


@pytest.mark.parametrize("index", [-1, 3, 10])
def test_rows_outside_are_errors(make_split: MakeSplit, index: int) -> None:
    split = make_split([(3, 1)] * 3)
    with pytest.raises(IndexError):
        split.tokens(index)
    with pytest.raises(IndexError):
        split.id_of(index)


def test_pickle_carries_the_path_and_not_the_rows(make_split: MakeSplit) -> None:
    split = make_split([(200, 100)] * 100)
    data = pickle.dumps(split)
    assert len(data) < 1000
    assert pickle.loads(data).rows(range(100)) == split.rows(range(100))


def test_statistics_that_do_not_fit_are_refused(make_split: MakeSplit) -> None:
    split = make_split([(3, 1)] * 3)
    changes: tuple[dict[str, Any], ...] = ({"num_rows": 2}, {"num_tokens": 8})
    for change in changes:
        wrong = dataclasses.replace(split.statistics, **change)
        with pytest.raises(ValueError, match="does not hold"):
            TokenizedSplit(split.path, wrong)


def statistics_of(path: Path, records: list[InstructionRecord]) -> SplitStatistics:
    writer = SplitWriter(path)
    for record in records:
        writer.add(record, TokenizedExample(record.id, [1, 2], [0.0, 1.0], 1, True))
    writer.close()
    return writer.statistics


def test_fingerprints(tmp_path: Path) -> None:
    base = InstructionRecord("a", instruction="i", input="x", output="o", reasoning={"simple": "s"})
    other = InstructionRecord("b", messages=(Message("user", "q"), Message("assistant", "a")))

    def of(*records: InstructionRecord) -> SplitStatistics:
        return statistics_of(tmp_path / "x.arrow", list(records))

    first = of(base, other)
    assert first == of(base, other)
    turned = of(other, base)
    assert turned.fingerprint != first.fingerprint
    assert turned.ids_fingerprint == first.ids_fingerprint
    changed = [
        dataclasses.replace(base, **change)
        for change in (
            {"instruction": "j"},
            {"input": "xo", "output": ""},
            {"reasoning": {"normal": "s"}},
            {"tests": ("assert f()",)},
            {"tests": ({"args": [date(2020, 1, 1)], "expected": 1},)},
            {"category": "c"},
        )
    ]
    found = [of(record, other) for record in changed]
    assert len({item.fingerprint for item in [first, *found]}) == len(changed) + 1
    assert {item.ids_fingerprint for item in found} == {first.ids_fingerprint}
    assert of(dataclasses.replace(base, id="c"), other).ids_fingerprint != first.ids_fingerprint
    chat = dataclasses.replace(other, messages=(Message("user", "q"), Message("assistant", "b")))
    assert of(base, chat).fingerprint != first.fingerprint


MEMORY_SCRIPT = """
import sys
from ift_lightning.data.split_files import SplitStatistics, SplitWriter, TokenizedSplit
from ift_lightning.types import InstructionRecord, TokenizedExample
from pathlib import Path

def anonymous_kb():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))

path, num_rows = Path(sys.argv[1]), 200_000
writer = SplitWriter(path)
record = InstructionRecord("a", instruction="i", output="o")
for index in range(num_rows):
    if index == 40_000:
        before = anonymous_kb()
    ids = list(range(index % 30 + 10))
    writer.add(record, TokenizedExample(str(index), ids, [1.0] * len(ids), 1, True))
writer.close()
written = anonymous_kb()
split = TokenizedSplit(path, writer.statistics)
total = sum(int(split.tokens(i)[0][-1]) for i in range(0, num_rows, 7))
print(written - before, anonymous_kb() - written, path.stat().st_size // 1024, len(split))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's /proc")
def test_200k_rows_stay_on_disk(tmp_path: Path) -> None:
    command = [sys.executable, "-c", MEMORY_SCRIPT, str(tmp_path / "split.arrow")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    writing, reading, file, num_rows = map(int, done.stdout.split())
    assert num_rows == 200_000
    assert file > 45_000  # kB
    # Writing holds one block, whatever the number of blocks; reading holds two numbers a row
    # (3.1 MB), and twice that while it starts.
    assert writing < 8_000
    assert reading < 12_000
