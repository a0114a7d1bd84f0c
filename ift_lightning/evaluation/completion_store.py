"""Completions on disk, appended as they are made, so that an interrupted evaluation continues."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ift_lightning.evaluation.generation import Completion, Decoding, Engine, FinishReason, Prompt
from ift_lightning.types import json_fingerprint

GENERATION_FORMAT = 1
"""Counted up when the same model and decoding give other completions."""


def prompt_key(prompt: Prompt) -> str:
    """Return 16 hexadecimal digits that identify what a generation starts from."""
    text = " ".join(map(str, prompt.input_ids))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class CompletionStore:
    """Completions of one model with one decoding, in a JSONL file that is only appended to.

    Rows, prompts and samples are part of each line, so that one file serves any choice of rows. A
    line that was not finished is not counted, and one that is there twice counts once.

    Args:
        folder: Where files are kept.
        model_key: JSON value that differs where the model's answers may.
        decoding: How completions are made.
    """

    def __init__(self, folder: Path, model_key: Any, decoding: Decoding) -> None:
        key = json_fingerprint([GENERATION_FORMAT, model_key, decoding.key()])
        self.path = folder / f"{key}.jsonl"

    def load(self, prompts: Iterable[Prompt]) -> dict[tuple[str, int], Completion]:
        """Return the completions of these prompts that are there, by id and sample."""
        wanted = {(prompt.id, prompt_key(prompt)) for prompt in prompts}
        found: dict[tuple[str, int], Completion] = {}
        try:
            lines = self.path.read_bytes().split(b"\n")
        except FileNotFoundError:
            return found
        for line in lines:
            with contextlib.suppress(ValueError, KeyError, TypeError):
                row = json.loads(line)
                if (row["id"], row["prompt_key"]) in wanted:
                    completion = Completion(
                        row["id"],
                        int(row["sample"]),
                        row["text"],
                        FinishReason(row["finish_reason"]),
                        int(row["num_tokens"]),
                    )
                    found.setdefault((completion.id, completion.sample), completion)
        return found

    def append(self, prompt: Prompt, completion: Completion) -> None:
        """Write a completion."""
        row = {
            "id": completion.id,
            "sample": completion.sample,
            "prompt_key": prompt_key(prompt),
            "text": completion.text,
            "finish_reason": completion.finish_reason.value,
            "num_tokens": completion.num_tokens,
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab") as file:
            # A line break first, too: what a killed process left unfinished stays a line apart.
            # Half of a surrogate pair is legal in JSON's ASCII form, and nowhere else.
            file.write(b"\n" + json.dumps(row).encode("ascii") + b"\n")


def generate_all(
    engine: Engine,
    prompts: Sequence[Prompt],
    decoding: Decoding,
    store: CompletionStore | None = None,
) -> tuple[dict[str, list[Completion]], int]:
    """Return the completions of all prompts, making those that the store does not have.

    Args:
        engine: Generates.
        prompts: With ids of their own.
        decoding: How.
        store: Where completions are kept and found; None to keep none.

    Returns:
        Id to completions in the order of their samples; and how many were found in the store.
    """
    found = store.load(prompts) if store is not None else {}
    found = {key: item for key, item in found.items() if key[1] < decoding.num_samples}
    num_found = len(found)
    by_id = {prompt.id: prompt for prompt in prompts}
    for completion in _missing(engine, prompts, decoding, found):
        found[completion.id, completion.sample] = completion
        if store is not None:
            store.append(by_id[completion.id], completion)
    samples = range(decoding.num_samples)
    return {name: [found[name, sample] for sample in samples] for name in by_id}, num_found


def _missing(
    engine: Engine,
    prompts: Sequence[Prompt],
    decoding: Decoding,
    found: dict[tuple[str, int], Completion],
) -> Iterator[Completion]:
    """Generate for prompts of which any sample is missing; a sample does not depend on others."""
    open_prompts = [
        prompt
        for prompt in prompts
        if any((prompt.id, sample) not in found for sample in range(decoding.num_samples))
    ]
    known = set(found)
    for completion in engine.generate(open_prompts, decoding):
        if (completion.id, completion.sample) not in known:
            yield completion
