"""Where answers are generated, and what is said where memory does not do."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from ift_lightning import training_evaluation
from ift_lightning.errors import UserError
from ift_lightning.training_evaluation import (
    TrainingEvaluation,
    explained_memory_errors,
    num_bytes,
)


def test_bytes_of_parameters_and_buffers() -> None:
    model = torch.nn.Linear(3, 2, bias=False).bfloat16()
    model.register_buffer("scale", torch.zeros(5))
    assert num_bytes(model) == 3 * 2 * 2 + 5 * 4


@pytest.mark.parametrize(("free", "expected"), [(1000, "cuda"), (445, "cuda"), (444, "cpu")])
def test_a_model_that_does_not_fit_stays_on_the_cpu(
    free: int, expected: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(training_evaluation.assembly, "runs_on_gpu", lambda config: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (free, 10_000))
    model = torch.nn.Linear(10, 10, bias=False)  # 400 bytes
    evaluation: Any = SimpleNamespace(config=None)
    assert TrainingEvaluation._device_for(evaluation, model) == expected
    assert ("evaluate=false" in capsys.readouterr().out) is (expected == "cpu")


def test_running_out_of_memory_is_explained() -> None:
    with (
        pytest.raises(UserError, match=r"before tuning needs more memory.*evaluate=false"),
        explained_memory_errors("before tuning"),
    ):
        raise torch.OutOfMemoryError("CUDA out of memory.")
