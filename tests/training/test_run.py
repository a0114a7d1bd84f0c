"""When a run validates, stops and saves, and whether it notices that something is not trained."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import make_model
from lightning.pytorch.callbacks import Callback
from tiny_training import VOCABULARY_SIZE, make_run, random_examples, to_batch

from ift_lightning.modeling.adalora import AdaLoraController
from ift_lightning.modeling.adapters import adalora_steps, attach_adapter, trainable_tensors
from ift_lightning.modeling.loss import SupervisedHead
from ift_lightning.training.reload_check import reload_difference
from ift_lightning.training.run import TrainingRun

LORA = {"_target_": "peft.LoraConfig", "target_modules": ["q_proj", "down_proj"], "r": 4}


def adalora(num_steps: int) -> dict[str, Any]:
    return {
        "_target_": "peft.AdaLoraConfig",
        "target_modules": "all-linear",
        "init_r": 6,
        "target_r": 2,
        **adalora_steps(num_steps, initial_fraction=0.1, final_fraction=0.3, num_allocations=5),
    }


class Validations(Callback):
    """Notes the step and the loss of every validation."""

    def __init__(self) -> None:
        self.losses: dict[int, float] = {}

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        assert trainer.global_step not in self.losses, "validated twice behind one step"
        self.losses[trainer.global_step] = float(trainer.callback_metrics["val/loss"])


def build(folder: Path, settings: dict[str, Any] | None = LORA, **options: Any) -> TrainingRun:
    torch.manual_seed(0)
    model = attach_adapter(make_model("llama", VOCABULARY_SIZE), settings)
    return make_run(model, folder, **options)


def val_loss(model: Any) -> float:
    """Return the weighted mean loss over the validation rows, in one batch."""
    batch = to_batch(random_examples(4, seed=2))
    model.eval()
    with torch.no_grad():
        return float(SupervisedHead(model)(batch).weighted_sum / batch.step_weight)


@pytest.mark.parametrize(
    ("num_steps", "val_every", "micro_batch_size", "expected"),
    [
        (6, 2, 4, [2, 4, 6]),
        (6, 4, 2, [4, 6]),
        (5, 2, 2, [2, 4, 5]),
        (3, 3, 1, [3]),
        (1, 1, 4, [1]),
    ],
)
def test_validates_at_the_interval_and_at_the_end(
    num_steps: int, val_every: int, micro_batch_size: int, expected: list[int], tmp_path: Path
) -> None:
    seen = Validations()
    run = build(
        tmp_path,
        num_steps=num_steps,
        micro_batch_size=micro_batch_size,
        val_every_n_steps=val_every,
        extra_callbacks=[seen],
    )
    run.fit()
    assert list(seen.losses) == expected
    assert seen.losses[num_steps] == pytest.approx(val_loss(run.module.model), rel=1e-5)
    assert run.recorder.record.metrics["val/loss"] == seen.losses[num_steps]


def test_early_stopping(tmp_path: Path) -> None:
    seen = Validations()
    run = build(tmp_path, num_steps=20, early_stopping=(2, 1e6), extra_callbacks=[seen])
    run.fit()
    # The first validation sets the mark; the two behind it are no better by 1e6.
    assert list(seen.losses) == [2, 4, 6]
    assert run.trainer.global_step == 6
    last = torch.load(run.last_checkpoint, weights_only=False)
    assert last["global_step"] == 6


@pytest.mark.parametrize("settings", ["lora", "adalora", "full"])
@pytest.mark.parametrize("keep_best", [True, False])
def test_best_or_last_weights_are_kept_and_saved(
    keep_best: bool, settings: str, tmp_path: Path, tokenizer: Any
) -> None:
    """With steps this large the validation loss soon rises again."""
    chosen = {"lora": LORA, "adalora": adalora(12), "full": None}[settings]
    seen = Validations()
    run = build(
        tmp_path,
        chosen,
        num_steps=12,
        lr=0.1,
        scheduler="constant",
        keep_best=keep_best,
        extra_callbacks=[seen],
    )
    run.fit()
    best = min(seen.losses, key=lambda step: seen.losses[step])
    assert best < 12, "the test has no best step before the last one"
    wanted = best if keep_best else 12
    assert run.keep_best_weights() == wanted
    assert val_loss(run.module.model) == pytest.approx(seen.losses[wanted], rel=1e-5)
    run.save(tokenizer, "base")
    assert run.export_folder.name == ("model" if chosen is None else "adapter")
    from transformers import AutoModelForCausalLM

    difference = reload_difference(
        run.module.model,
        run.export_folder,
        lambda: make_model("llama", VOCABULARY_SIZE),
        AutoModelForCausalLM.from_pretrained,
        to_batch(random_examples(2)),
    )
    assert difference <= 1e-6


def test_reload_difference_sees_a_difference(tmp_path: Path, tokenizer: Any) -> None:
    run = build(tmp_path, num_steps=2)
    run.fit()
    run.save(tokenizer, "base")
    batch = to_batch(random_examples(2))

    def difference() -> float:
        return reload_difference(
            run.module.model,
            run.export_folder,
            lambda: make_model("llama", VOCABULARY_SIZE),
            lambda folder: None,
            batch,
        )

    assert difference() <= 1e-6
    with torch.no_grad():
        next(iter(trainable_tensors(run.module.model).values())).add_(0.5)
    assert difference() > 1e-4


def test_without_validation_rows(tmp_path: Path) -> None:
    run = build(tmp_path, num_steps=3, num_val=0, save_every_n_steps=2)
    run.fit()
    assert run.keep_best_weights() == 3
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["last.ckpt"]


@pytest.mark.parametrize("settings", [LORA, adalora(8), None], ids=["lora", "adalora", "full"])
def test_audit_passes_where_all_is_trained(settings: Any, tmp_path: Path) -> None:
    run = build(tmp_path, settings, num_steps=8)
    run.fit()
    audit = run.recorder.record.audit["trainability"]
    assert audit["problems"] == []
    assert audit["passed"]
    assert audit["num_tensors"] == len(trainable_tensors(run.module.model))


def test_audit_sees_a_tensor_outside_the_graph(tmp_path: Path) -> None:
    run = build(tmp_path, num_steps=4)
    run.module.model.base_model.model.forgotten = torch.nn.Parameter(torch.ones(3))
    run.fit()
    audit = run.recorder.record.audit["trainability"]
    name = "base_model.model.forgotten"
    assert audit["without_gradient"] == audit["unchanged"] == [name]
    assert not audit["passed"]


def test_audit_sees_a_gradient_that_is_always_zero(tmp_path: Path) -> None:
    run = build(tmp_path, num_steps=4)
    name, tensor = next(
        item for item in trainable_tensors(run.module.model).items() if "lora_B" in item[0]
    )
    tensor.register_hook(torch.zeros_like)
    run.fit()
    audit = run.recorder.record.audit["trainability"]
    # With B at zero, its A gets no gradient either.
    assert audit["without_gradient"] == [name.replace("lora_B", "lora_A"), name]
    assert not audit["passed"]


def test_audit_sees_an_optimizer_that_has_other_tensors(tmp_path: Path) -> None:
    """The defect of making the optimizer before the adapter: gradients flow, nothing moves."""
    run = build(tmp_path, num_steps=4)
    run.module._make_optimizer = lambda model: torch.optim.SGD([torch.nn.Parameter(torch.ones(1))])
    run.fit()
    audit = run.recorder.record.audit["trainability"]
    assert len(audit["unchanged"]) == audit["num_tensors"] == 8
    assert not audit["passed"]


def test_audit_sees_ranks_that_never_move(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(AdaLoraController, "after_optimizer_step", lambda self, step: None)
    run = build(tmp_path, adalora(8), num_steps=8)
    run.fit()
    audit = run.recorder.record.audit["trainability"]
    assert audit["problems"] == ["AdaLoRA's ranks did not move"]
    assert audit["total_rank"] == {"first": 84, "last": 84}


def test_audit_allows_ranks_grown_back_where_a_run_stops_early(tmp_path: Path) -> None:
    run = build(tmp_path, adalora(40), num_steps=40, early_stopping=(3, 1e6))
    run.fit()
    assert run.trainer.global_step == 8
    audit = run.recorder.record.audit["trainability"]
    assert audit["problems"] == []


def test_nothing_is_said_that_a_user_could_not_act_on(
    tmp_path: Path, tokenizer: Any, capfd: Any, caplog: Any
) -> None:
    with warnings.catch_warnings(record=True) as caught, caplog.at_level(logging.WARNING):
        warnings.simplefilter("always")
        run = build(tmp_path, adalora(8), num_steps=8)
        run.fit()
        run.keep_best_weights()
        run.save(tokenizer, str(tmp_path))
    said = [str(item.message) for item in caught if item.category is not DeprecationWarning]
    assert [text for text in said if "config file" not in text] == []
    assert [record.message for record in caplog.records] == []
    assert capfd.readouterr().err == ""
