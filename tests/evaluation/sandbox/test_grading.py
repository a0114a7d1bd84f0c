"""Bytes from the sandbox -> an outcome, without a sandbox."""

from __future__ import annotations

import pytest

from ift_lightning.evaluation.sandbox import Program
from ift_lightning.evaluation.sandbox.grading import Reply, grade
from ift_lightning.evaluation.sandbox.inside import wire
from ift_lightning.evaluation.sandbox.test_plan import SourceTest
from ift_lightning.evaluation.sandbox.types import Tolerance

LOADED = wire.frame(b'{"ready":true}') + wire.frame(b'{"value":null}')


@pytest.mark.parametrize(
    ("word", "verdict"), [("right", "pass"), ("", "error"), ("wrong", "error")]
)
def test_only_signed_verdicts_count(word: str, verdict: str) -> None:
    sent = wire.frame(wire.dump({"word": word, "index": 0, "raised": None}))
    reply = Reply(0, None, 0.1, LOADED, sent)
    outcome = grade(Program("a", "", "f", "x"), [SourceTest("x")], reply, "right", Tolerance())
    assert outcome.verdict == verdict and outcome.judged_in_child
