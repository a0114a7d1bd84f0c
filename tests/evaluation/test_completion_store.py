"""Completions are made once, also where an earlier try was interrupted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from ift_lightning.evaluation.completion_store import CompletionStore, generate_all
from ift_lightning.evaluation.generation import Completion, Decoding, FinishReason, Prompt

PROMPTS = [Prompt(f"row{n}", (n, n + 1)) for n in range(4)]
SAMPLING = Decoding(8, do_sample=True, num_samples=2)


class Counting:
    """Writes the prompt's id and the sample's number, and remembers what it was asked."""

    name = "counting"

    def __init__(self, fail_after: int | None = None) -> None:
        self.asked: list[str] = []
        self.fail_after = fail_after

    def generate(self, prompts: Sequence[Prompt], decoding: Decoding) -> Iterator[Completion]:
        for number, prompt in enumerate(prompts):
            if number == self.fail_after:
                raise KeyboardInterrupt
            self.asked.append(prompt.id)
            for sample in range(decoding.num_samples):
                text = f"{prompt.id}-{sample}\n写\ud800"
                yield Completion(prompt.id, sample, text, FinishReason.LENGTH, 3)


def store(folder: Path, key: object = "model", decoding: Decoding = SAMPLING) -> CompletionStore:
    return CompletionStore(folder, key, decoding)


def test_interrupted_generation_goes_on_where_it_was(tmp_path: Path) -> None:
    whole, _ = generate_all(Counting(), PROMPTS, SAMPLING)
    with pytest.raises(KeyboardInterrupt):
        generate_all(Counting(fail_after=2), PROMPTS, SAMPLING, store(tmp_path))
    rest = Counting()
    found, num_found = generate_all(rest, PROMPTS, SAMPLING, store(tmp_path))
    assert found == whole
    assert num_found == 4
    assert rest.asked == ["row2", "row3"]
    again = Counting()
    assert generate_all(again, PROMPTS, SAMPLING, store(tmp_path)) == (whole, 8)
    assert again.asked == []


def test_line_that_was_not_finished_is_made_again(tmp_path: Path) -> None:
    whole, _ = generate_all(Counting(), PROMPTS, SAMPLING, store(tmp_path))
    path = store(tmp_path).path
    path.write_bytes(path.read_bytes().rstrip()[:-7])
    rest = Counting()
    assert generate_all(rest, PROMPTS, SAMPLING, store(tmp_path)) == (whole, 7)
    assert rest.asked == ["row3"]
    # What was appended behind the torn line is read, too.
    assert generate_all(Counting(), PROMPTS, SAMPLING, store(tmp_path)) == (whole, 8)


def test_other_prompt_model_or_decoding_has_completions_of_its_own(tmp_path: Path) -> None:
    generate_all(Counting(), PROMPTS, SAMPLING, store(tmp_path))
    changed = [Prompt("row0", (9, 9)), *PROMPTS[1:]]
    engine = Counting()
    generate_all(engine, changed, SAMPLING, store(tmp_path))
    assert engine.asked == ["row0"]
    for other in (
        store(tmp_path, "another model"),
        store(tmp_path, decoding=Decoding(8, do_sample=True, num_samples=2, seed=1)),
        store(tmp_path, decoding=Decoding(9, do_sample=True, num_samples=2)),
        store(tmp_path, decoding=Decoding(8, do_sample=True, num_samples=2, stop=("x",))),
    ):
        assert other.load(PROMPTS) == {}


def test_more_samples_of_the_same_kind_reuse_those_that_are_there(tmp_path: Path) -> None:
    generate_all(Counting(), PROMPTS, SAMPLING, store(tmp_path))
    more = Decoding(8, do_sample=True, num_samples=3)
    found, num_found = generate_all(Counting(), PROMPTS, more, store(tmp_path, decoding=more))
    assert num_found == 8
    assert [completion.sample for completion in found["row0"]] == [0, 1, 2]
    fewer = Decoding(8, do_sample=True, num_samples=1)
    found, num_found = generate_all(Counting(), PROMPTS, fewer, store(tmp_path, decoding=fewer))
    assert num_found == 4
    assert len(found["row0"]) == 1
