"""Rows that a benchmark's problems have leaked into, found by shared runs of words."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from ift_lightning.data.normalized_text import answer_text, request_text
from ift_lightning.types import InstructionRecord

# A character of Chinese or Japanese stands for a word: such text has no blanks between words.
_WORDS = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W\u3040-\u30ff\u3400-\u9fff]+")


def words(text: str) -> list[str]:
    """Return the words of a text, in lower case and without punctuation."""
    return _WORDS.findall(text.casefold())


class NgramIndex:
    """The runs of ``size`` words of a benchmark's problems and solutions.

    Overlap by 13 words is the criterion of Brown et al. 2020, appendix C
    (https://arxiv.org/abs/2005.14165).

    Args:
        records: The benchmark's problems.
        size: Words of a run.

    Attributes:
        num_problems: Problems of the benchmark.
        num_too_short: Problems with fewer words than a run, which cannot be found.
    """

    def __init__(self, records: Iterable[InstructionRecord], size: int = 13) -> None:
        if size < 2:
            raise ValueError("a run has to have two words at least")
        self.size = size
        self.num_problems = self.num_too_short = 0
        self._ends: set[tuple[str, str]] = set()  # first and last word: quick to look up
        self._runs: dict[tuple[str, ...], str] = {}  # run -> id of the first problem that has it
        for record in records:
            self.num_problems += 1
            num_runs = 0
            for text in (request_text(record), answer_text(record)):
                for run in self._runs_of(words(text)):
                    num_runs += 1
                    self._runs.setdefault(run, record.id)
                    self._ends.add((run[0], run[-1]))
            self.num_too_short += not num_runs

    def _runs_of(self, text: list[str]) -> Iterator[tuple[str, ...]]:
        for start in range(len(text) - self.size + 1):
            yield tuple(text[start : start + self.size])

    def problem_in(self, text: str) -> str | None:
        """Return the id of the first problem that shares a run of words with ``text``."""
        found = words(text)
        size = self.size
        for start, ends in enumerate(zip(found, found[size - 1 :], strict=False)):
            if ends in self._ends:
                problem = self._runs.get(tuple(found[start : start + size]))
                if problem is not None:
                    return problem
        return None
