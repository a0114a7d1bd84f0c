"""Sweeps through the command line, their training replaced: which points run, and what is kept."""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig

from ift_lightning import assembly, finetuning
from ift_lightning.config.schema import TrainConfig
from ift_lightning.modeling.loading import weights_fingerprint
from ift_lightning.sweeps import resuming
from ift_lightning.sweeps.resuming import PointKey
from ift_lightning.training.run_record import RunRecorder
from ift_lightning.types import RunRecord

Sweep = Callable[..., list[str]]


class Trainer:
    """Stands for training: writes the record that a run leaves, and remembers what it was given."""

    def __init__(self) -> None:
        self.ran: list[TrainConfig] = []
        self.resumed: list[bool] = []
        self.broken: set[str] = set()
        self.interrupt_at: str | None = None

    def __call__(self, config: TrainConfig) -> float:
        self.ran.append(config)
        self.resumed.append(config.resume)
        folder = Path(config.run_dir)
        key = PointKey.of(config)
        record = RunRecord(
            name=config.name,
            seed=config.seed,
            overrides=list(HydraConfig.get().overrides.task),
            config_fingerprint=key.config,
            evaluation_fingerprint=key.evaluation,
            resume_fingerprint=assembly.resume_fingerprint(config),
            sandbox_fingerprint=key.sandbox,
            data={
                "fingerprint": key.data,
                "fingerprints": {"train": key.data, "val": key.val, "test": key.test},
                "tokenizer_fingerprint": key.tokenizer,
            },
            model={"weights_fingerprint": key.weights},
        )
        with RunRecorder(folder, record).running():
            print(f"training {folder.name}")
            (folder / "checkpoints").mkdir(exist_ok=True)
            (folder / "checkpoints" / "last.ckpt").write_text("state")
            if self.interrupt_at == folder.name:
                raise KeyboardInterrupt
            if folder.name in self.broken:
                raise RuntimeError("out of memory")
            (folder / "adapter").mkdir(exist_ok=True)
            (folder / "adapter" / "weights").write_text(folder.name)
            record.metrics = {"val/loss": 0.5, "test/loss": 1.0 + config.seed}
        return 0.5

    def points(self) -> list[str]:
        names = [Path(config.run_dir).name for config in self.ran]
        self.ran.clear()
        return names


@pytest.fixture
def trainer(monkeypatch: pytest.MonkeyPatch) -> Trainer:
    stand_in = Trainer()
    monkeypatch.setattr(finetuning, "train", stand_in)
    return stand_in


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trainer: Trainer) -> Sweep:
    """Return a function that runs the command, and returns the points that were trained."""
    from ift_lightning import train as entry

    rows = [{"instruction": f"add {n}", "output": f"x + {n}"} for n in range(30)]
    (tmp_path / "rows.json").write_text(json.dumps(rows), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")  # the command sets it; other tests start processes

    def run(*words: str, folder: str = "sweep") -> list[str]:
        monkeypatch.setattr(
            sys,
            "argv",
            ["train", "--multirun", *words, "data=jsonl", "data.path=rows.json",
             f"data.cache_dir={tmp_path / 'cache'}", "data.val_fraction=0.2",
             "data.test_fraction=0.2", "trainer.max_steps=2", "trainer.global_batch_size=4",
             f"hydra.sweep.dir={tmp_path / folder}", "sweep.report=false",
             "hydra.verbose=false"],
        )  # fmt: skip
        GlobalHydra.instance().clear()
        try:
            entry.main()
        finally:
            GlobalHydra.instance().clear()
        return trainer.points()

    return run


def record_of(folder: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    return record


def test_points_have_readable_folders_and_their_own_output(sweep: Sweep, tmp_path: Path) -> None:
    assert sweep("peft=lora,prefix", "seeds=2") == [
        "peft=lora,seed=0",
        "peft=lora,seed=1",
        "peft=prefix,seed=0",
        "peft=prefix,seed=1",
    ]
    folder = tmp_path / "sweep" / "peft=lora,seed=1"
    assert "training peft=lora,seed=1" in (folder / "output.log").read_text()
    plan = json.loads((tmp_path / "sweep" / "sweep.json").read_text())
    assert [point["folder"] for point in plan["points"]][1] == folder.name
    assert "seed=1" in plan["points"][1]["overrides"]


def test_a_finished_point_is_not_run_again(sweep: Sweep, tmp_path: Path) -> None:
    sweep("peft=lora", "seeds=2")
    before = (tmp_path / "sweep" / "seed=0" / "run.json").read_bytes()
    assert sweep("peft=lora", "seeds=2") == []
    assert sweep("peft=lora", "seeds=3") == ["seed=2"]
    assert (tmp_path / "sweep" / "seed=0" / "run.json").read_bytes() == before
    assert sweep("peft=lora", "seeds=2", "sweep.resume=false") == ["seed=0", "seed=1"]


def test_an_interrupted_point_goes_on_from_its_checkpoint(
    sweep: Sweep, trainer: Trainer, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer.interrupt_at = "seed=1"
    with pytest.raises(SystemExit) as stopped:
        sweep("peft=lora", "seeds=3")
    assert stopped.value.code == 130
    assert "finished points are kept. Go on with" in capsys.readouterr().err
    assert trainer.points() == ["seed=0", "seed=1"]
    trainer.interrupt_at = None
    assert sweep("peft=lora", "seeds=3") == ["seed=1", "seed=2"]


def test_only_the_interrupted_point_resumes(sweep: Sweep, trainer: Trainer) -> None:
    trainer.interrupt_at = "seed=0"
    with pytest.raises(SystemExit):
        sweep("peft=lora", "seeds=2")
    trainer.interrupt_at = None
    trainer.points()
    resumed: list[bool] = []
    original = trainer.__class__.__call__

    def spy(self: Trainer, config: TrainConfig) -> float:
        resumed.append(config.resume)
        return original(self, config)

    trainer.__class__.__call__ = spy  # type: ignore[method-assign]
    try:
        sweep("peft=lora", "seeds=2")
    finally:
        trainer.__class__.__call__ = original  # type: ignore[method-assign]
    assert resumed == [True, False]


def test_a_failing_point_is_named_and_the_others_run(
    sweep: Sweep, trainer: Trainer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer.broken = {"peft=lora,seed=1"}
    with pytest.raises(SystemExit) as ended:
        sweep("peft=lora,prefix", "seeds=2")
    assert ended.value.code == 1
    assert len(trainer.points()) == 4
    message = capsys.readouterr().err
    assert "1 of 4 points did not finish:" in message
    assert "peft=lora,seed=1: RuntimeError('out of memory')" in message
    assert f"hydra.sweep.dir={tmp_path / 'sweep'}" in message
    log = (tmp_path / "sweep" / "peft=lora,seed=1" / "output.log").read_text()
    assert "Traceback" in log  # no error of the user's
    trainer.broken = set()
    assert sweep("peft=lora,prefix", "seeds=2") == ["peft=lora,seed=1"]


@pytest.mark.parametrize("ending", ["completed", "interrupted", "failed"])
def test_a_failure_to_decide_leaves_the_record_of_an_earlier_attempt(
    sweep: Sweep,
    trainer: Trainer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    ending: str,
) -> None:
    if ending == "interrupted":
        trainer.interrupt_at = "seed=1"
    trainer.broken = {"seed=1"} if ending == "failed" else set()
    with contextlib.nullcontext() if ending == "completed" else pytest.raises(SystemExit):
        sweep("peft=lora", "seeds=2")
    trainer.points()
    trainer.interrupt_at, trainer.broken = None, set()
    folder = tmp_path / "sweep" / "seed=1"
    before = (folder / "run.json").read_bytes()
    capsys.readouterr()

    def unreachable(*_: Any) -> str:
        raise OSError("the file server is away")

    with monkeypatch.context() as patch:
        patch.setattr(resuming, "weights_fingerprint", unreachable)
        with pytest.raises(SystemExit):
            sweep("peft=lora", "seeds=2", "sweep.unfair=ignore")
    message = capsys.readouterr().err
    assert "2 of 2 points did not finish" in message
    assert "seed=1: OSError('the file server is away')" in message
    assert trainer.points() == []
    assert (folder / "run.json").read_bytes() == before
    trainer.resumed.clear()
    assert sweep("peft=lora", "seeds=2") == ([] if ending == "completed" else ["seed=1"])
    assert all(trainer.resumed)
    assert not (folder / "sweep_error.json").exists()


def test_other_settings_take_the_place_of_an_earlier_run(sweep: Sweep, tmp_path: Path) -> None:
    sweep("peft=lora", "seeds=2")
    assert sweep("peft=lora", "seeds=2", "optimizer.lr=1e-3") == ["seed=0", "seed=1"]
    old = record_of(tmp_path / "sweep" / "superseded" / "seed=0-0")
    new = record_of(tmp_path / "sweep" / "seed=0")
    assert old["config_fingerprint"] != new["config_fingerprint"]


def test_other_rows_run_again(sweep: Sweep, tmp_path: Path) -> None:
    sweep("peft=lora", "seeds=2")
    rows = json.loads((tmp_path / "rows.json").read_text())
    for row in rows:
        row["output"] += " + 0"
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    assert sweep("peft=lora", "seeds=2") == ["seed=0", "seed=1"]


@pytest.mark.parametrize(("split", "goes_on"), [("val", False), ("test", True)])
def test_other_rows_of_a_split_repeat_what_they_decide(
    sweep: Sweep, trainer: Trainer, tmp_path: Path, split: str, goes_on: bool
) -> None:
    """Validation rows choose the best checkpoint; test rows only score it."""
    words = ["peft=lora", "seeds=2", f"data.{split}_path={split}.json"]
    rows = [{"instruction": f"subtract {n}", "output": f"x - {n}"} for n in range(4)]
    (tmp_path / f"{split}.json").write_text(json.dumps(rows))
    assert len(sweep(*words)) == 2
    assert sweep(*words) == []
    rows[0]["output"] = "x + 0"
    (tmp_path / f"{split}.json").write_text(json.dumps(rows))
    trainer.resumed.clear()
    assert sweep(*words) == ["seed=0", "seed=1"]
    assert trainer.resumed == [goes_on, goes_on]


def test_other_limits_of_the_sandbox_repeat_the_evaluation_alone(
    sweep: Sweep, trainer: Trainer
) -> None:
    sweep("peft=lora", "seeds=2")
    assert sweep("peft=lora", "seeds=2", "sandbox.num_workers=1") == []
    trainer.resumed.clear()
    assert sweep("peft=lora", "seeds=2", "sandbox.memory_mib=64") == ["seed=0", "seed=1"]
    assert trainer.resumed == [True, True]


def test_another_tokenizer_is_another_run(
    sweep: Sweep, trainer: Trainer, tmp_path: Path, model_folder: Callable[[str], Path]
) -> None:
    model = tmp_path / "model"
    shutil.copytree(model_folder("llama"), model)
    words = ["peft=lora", "seeds=2", "model=local", f"model.path={model}"]
    assert len(sweep(*words)) == 2
    settings = json.loads((model / "tokenizer_config.json").read_text())
    settings["chat_template"] = "{{ messages[0]['content'] }}!"
    (model / "tokenizer_config.json").write_text(json.dumps(settings))
    (model / "chat_template.jinja").unlink(missing_ok=True)
    trainer.resumed.clear()
    assert sweep(*words) == ["seed=0", "seed=1"]
    assert trainer.resumed == [False, False]


def test_records_without_the_newer_fingerprints_count_as_unchanged(
    sweep: Sweep, tmp_path: Path
) -> None:
    sweep("peft=lora", "seeds=2")
    for path in (tmp_path / "sweep").glob("*/run.json"):
        record = json.loads(path.read_text())
        del record["sandbox_fingerprint"], record["data"]["fingerprints"]
        del record["data"]["tokenizer_fingerprint"]
        path.write_text(json.dumps(record))
    assert sweep("peft=lora", "seeds=2") == []
    assert sweep("peft=lora", "seeds=2", "generation.do_sample=true") == ["seed=0", "seed=1"]


def test_what_only_speeds_up_a_run_does_not_repeat_it(sweep: Sweep) -> None:
    sweep("peft=lora", "seeds=2")
    assert sweep("peft=lora", "seeds=2", "trainer.num_threads=1", "logger=none") == []


def test_another_evaluation_needs_no_training(sweep: Sweep, trainer: Trainer) -> None:
    sweep("peft=lora", "seeds=2")
    assert sweep("peft=lora", "seeds=2", "generation.do_sample=true") == ["seed=0", "seed=1"]


def test_finished_runs_of_another_sweep_stand_in(sweep: Sweep, tmp_path: Path) -> None:
    sweep("peft=lora", "seeds=2")
    assert sweep(
        "peft=lora,prefix", "seeds=2", f"sweep.reuse=[{tmp_path / 'sweep'}]", folder="second"
    ) == ["peft=prefix,seed=0", "peft=prefix,seed=1"]
    copy = tmp_path / "second" / "peft=lora,seed=1"
    record = record_of(copy)
    assert record["reused_from"] == str(tmp_path / "sweep" / "seed=1")
    assert "peft=lora" in record["overrides"]
    assert (copy / "adapter" / "weights").read_text() == "seed=1"
    assert not (copy / "checkpoints").exists()
    assert (copy / ".hydra" / "config.yaml").is_file()


def test_points_that_cannot_work_are_refused_before_any_runs(
    sweep: Sweep, trainer: Trainer, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        sweep("optimizer.lr=1e-3,0")
    assert trainer.points() == []
    message = capsys.readouterr().err
    assert "optimizer.lr=0" in message
    assert "in the point optimizer.lr=0 of the sweep" in message


def test_rows_that_cannot_be_used_are_refused_before_any_runs(
    sweep: Sweep, trainer: Trainer, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        sweep("data.max_seq_length=512,10")
    assert trainer.points() == []
    assert "rejected.jsonl" in capsys.readouterr().err


def test_arms_that_differ_in_more_than_the_factor_are_named(
    sweep: Sweep, trainer: Trainer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(sweep("peft=lora,prefix", "seeds=2")) == 4
    assert "the arms differ" not in capsys.readouterr().out
    assert len(sweep("data.num_train=20,10", "seeds=2", folder="rows")) == 4
    assert "training rows: data.num_train=20" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        sweep("data.num_train=20,10", "sweep.unfair=error", folder="never")
    assert trainer.points() == []
    assert "sweep.unfair=warn trains them all the same" in capsys.readouterr().err


def test_without_the_table_points_print_where_the_user_looks(
    sweep: Sweep, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    sweep("seeds=2", "sweep.table=false")
    assert "training seed=1" in capsys.readouterr().out
    assert not (tmp_path / "sweep" / "seed=1" / "output.log").exists()


def test_a_folder_to_reuse_has_to_be_there(
    sweep: Sweep, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with pytest.raises(SystemExit):
        sweep("seeds=2", "sweep.reuse=[nowhere]")
    message = capsys.readouterr().err
    assert message.count("sweep.reuse=nowhere: there is no such folder") == 1
    assert "points did not finish" not in message
    assert list((tmp_path / "sweep").glob("*/run.json")) == []


def test_weights_are_part_of_the_key(tmp_path: Path) -> None:
    found = PointKey.recorded({"model": {"weights_fingerprint": "w"}, "data": None})
    assert found == PointKey(config="", evaluation="", data="", weights="w")
    assert weights_fingerprint("some/model", "abc", tmp_path) == "hub:some/model@abc"


@pytest.mark.usefixtures("trainer")
def test_a_command_that_is_no_sweep_is_left_alone(
    sweep: Sweep, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from ift_lightning import train as entry

    monkeypatch.setattr(
        sys,
        "argv",
        ["train", "data=jsonl", "data.path=rows.json", f"hydra.run.dir={tmp_path / 'one'}",
         f"data.cache_dir={tmp_path / 'cache'}"],
    )  # fmt: skip
    GlobalHydra.instance().clear()
    entry.main()
    assert not (tmp_path / "one" / "output.log").exists()
    assert not (tmp_path / "one" / "sweep.json").exists()


def test_errors_in_the_sweep_itself_reach_the_user(
    sweep: Sweep, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        sweep("peft=lora,prefx")
    assert "prefx" in capsys.readouterr().err
