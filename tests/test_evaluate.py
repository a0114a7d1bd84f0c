"""The evaluate and predict commands on small random models, and what bad input gets."""

from __future__ import annotations

import gzip
import io
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from composing import compose_train
from conftest import shared_data_folder
from hydra import compose, initialize_config_dir
from test_train import write_rows

from ift_lightning.config.entry import (
    allow_new_keys,
    config_dir,
    register_resolvers,
    register_schema,
    to_dataclass,
)
from ift_lightning.config.evaluate_schema import EvaluateConfig, PredictConfig
from ift_lightning.config.run_options import with_run_options
from ift_lightning.config.schema import TrainConfig
from ift_lightning.errors import UserError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("evaluate")


@pytest.fixture(scope="module")
def options(folder: Path, model_folder: Callable[[str], Path]) -> list[str]:
    """Return the overrides of every run here."""
    return [
        "model=local",
        f"model.path={model_folder('llama')}",
        "data=jsonl",
        f"data.path={write_rows(folder / 'rows.json')}",
        "data.val_fraction=0.1",
        "data.test_fraction=0.2",
        f"data.cache_dir={folder / 'cache'}",
        "generation.max_new_tokens=8",
        "trainer.progress_bar=false",
    ]


@pytest.fixture(scope="module")
def trained(folder: Path, options: list[str]) -> Path:
    """Return the folder of a short run that generated answers at its end."""
    from omegaconf import OmegaConf

    from ift_lightning.assembly import plain
    from ift_lightning.finetuning import train

    config = compose_train(
        *options, "evaluate=true", "trainer.max_steps=4", "optimizer.lr=0.5", "template=chatml",
        "logger=none", run_dir=folder / "run",
    )  # fmt: skip
    train(config)
    # What Hydra writes for a run that it starts.
    (folder / "run" / ".hydra").mkdir()
    OmegaConf.save(OmegaConf.create(plain(config)), folder / "run" / ".hydra" / "config.yaml")
    return folder / "run"


def composed(name: str, schema: type, overrides: list[str], run_dir: Path) -> Any:
    register_resolvers()
    register_schema("train", TrainConfig)
    register_schema(name, schema)
    words = [*overrides, f"run_dir={run_dir}"]
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        config = compose(name, overrides=allow_new_keys(words, schema))
    if config.run:
        config = with_run_options(config, Path(config.run), words)
    return to_dataclass(config, schema)


def evaluated(overrides: list[str], run_dir: Path) -> dict[str, Any]:
    from ift_lightning.evaluation_runs import evaluate

    evaluate(composed("evaluate", EvaluateConfig, overrides, run_dir))
    record: dict[str, Any] = json.loads((run_dir / "run.json").read_text(encoding="utf-8"))
    return record


def predictions_of(folder: Path, name: str = "predictions.jsonl") -> list[dict[str, Any]]:
    lines = (folder / name).read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def test_training_ends_with_answers_of_both_models(trained: Path) -> None:
    record = json.loads((trained / "run.json").read_text(encoding="utf-8"))
    for name in ("exact_match", "extraction_failures", "cut_off"):
        assert f"test/{name}" in record["metrics"]
        assert f"before/test/{name}" in record["metrics"]
    after, before = predictions_of(trained), predictions_of(trained, "predictions_before.jsonl")
    assert len(after) == len(before) == record["data"]["num_test"]
    assert [row["id"] for row in after] == [row["id"] for row in before]
    assert [row["completion"] for row in after] != [row["completion"] for row in before]
    cost = record["performance"]["generation"]
    assert cost["test"]["num_completions"] == len(after)
    assert record["performance"]["eval_seconds"] >= cost["test"]["seconds"]


def test_evaluating_a_run_gives_what_the_run_gave(trained: Path, folder: Path) -> None:
    record = evaluated([f"run={trained}", "generation.keep_completions=false"], folder / "again")
    assert record["status"] == "completed"
    assert record["performance"]["num_completions_from_cache"] == 0
    assert predictions_of(folder / "again") == predictions_of(trained)
    own = json.loads((trained / "run.json").read_text(encoding="utf-8"))["metrics"]
    assert {name: own[name] for name in record["metrics"]} == record["metrics"]
    assert record["data"]["template"] == "chatml"


def test_base_model_of_a_run_is_what_the_run_measured_before(trained: Path, folder: Path) -> None:
    record = evaluated([f"run={trained}", "use_adapter=false"], folder / "base")
    assert record["performance"]["num_completions_from_cache"] == len(predictions_of(trained))
    assert predictions_of(folder / "base") == predictions_of(trained, "predictions_before.jsonl")


def test_base_model_needs_no_run(options: list[str], trained: Path, folder: Path) -> None:
    evaluated([*options, "template=chatml"], folder / "alone")
    assert predictions_of(folder / "alone") == predictions_of(trained, "predictions_before.jsonl")


def test_model_with_an_adapter(options: list[str], trained: Path, folder: Path) -> None:
    evaluated([*options, "template=chatml", f"adapter={trained / 'adapter'}"], folder / "pair")
    assert predictions_of(folder / "pair") == predictions_of(trained)


def test_command_line_wins_over_the_run(trained: Path, folder: Path) -> None:
    config = composed(
        "evaluate",
        EvaluateConfig,
        [f"run={trained}", "data=drills", "generation.max_new_tokens=3", "split=val"],
        folder / "x",
    )
    assert (config.data.name, config.data.num_test) == ("drills", 200)
    assert config.generation.max_new_tokens == 3
    assert config.template.name == "chatml"
    assert config.trainer.max_steps == 4
    assert config.run_dir == str(folder / "x")
    assert config.split == "val"


def test_answers_from_a_file_are_scored_without_a_model(
    options: list[str], trained: Path, folder: Path
) -> None:
    given = folder / "given.jsonl"
    rows = predictions_of(trained)
    given.write_text(
        "".join(json.dumps({"id": r["id"], "completion": r["reference"]}) + "\n" for r in rows)
    )
    broken = [*options, "model.path=/nowhere", f"predictions={given}"]
    record = evaluated(broken, folder / "scored")
    assert record["metrics"]["test/exact_match"] == 1.0
    assert record["metrics"]["test/extraction_failures"] == 0.0
    given.write_text(json.dumps({"id": "unknown", "completion": "x"}) + "\n")
    with pytest.raises(UserError, match="do not match the rows"):
        evaluated(broken, folder / "refused")
    assert json.loads((folder / "refused" / "run.json").read_text())["status"] == "failed"


def test_run_without_an_adapter_is_refused(trained: Path, folder: Path) -> None:
    bare = folder / "bare"
    shutil.copytree(trained, bare, ignore=shutil.ignore_patterns("adapter"))
    with pytest.raises(UserError, match=r"has no adapter.*resume=true"):
        evaluated([f"run={bare}"], folder / "no")
    (bare / "adapter").mkdir()
    with pytest.raises(UserError, match="holds no adapter"):
        evaluated([f"run={bare}"], folder / "no")
    shutil.copy(trained / "adapter" / "adapter_config.json", bare / "adapter")
    with pytest.raises(UserError, match="no weights"):
        evaluated([f"run={bare}"], folder / "no")


@pytest.mark.parametrize("family", ["qwen2", "gpt2"])
def test_adapter_of_another_base_model_is_refused(
    family: str, options: list[str], trained: Path, folder: Path, model_folder: Any
) -> None:
    other = [*options, f"model.path={model_folder(family)}"]
    with pytest.raises(UserError, match="was trained on local"):
        evaluated([*other, f"adapter={trained / 'adapter'}"], folder / "no")
    with pytest.raises(UserError, match="was trained on local"):
        evaluated([f"run={trained}", f"model.path={model_folder(family)}"], folder / "no")
    # Moved away from its run, only its tensors can tell.
    moved = folder / f"moved-{family}"
    shutil.copytree(trained / "adapter", moved)
    if family == "gpt2":
        with pytest.raises(UserError, match=r"does not fit this gpt2 model.*was trained on"):
            evaluated([*other, f"adapter={moved}"], folder / "no")


def test_folder_that_is_no_run_is_refused(folder: Path) -> None:
    with pytest.raises(UserError, match="there is no such folder"):
        evaluated([f"run={folder / 'nothing'}"], folder / "no")
    with pytest.raises(UserError, match="is no run folder"):
        evaluated([f"run={folder}"], folder / "no")


def asking(overrides: list[str], folder: Path) -> Any:
    from ift_lightning.predicting import Asking
    from ift_lightning.trained_models import choose_model

    config = composed("predict", PredictConfig, overrides, folder / "predict")
    return Asking(config, choose_model(config))


def test_conversation_remembers_what_was_said(trained: Path, folder: Path) -> None:
    asked = asking([f"run={trained}", "generation.max_new_tokens=6"], folder)
    seen: list[str] = []
    original = asked.engine.stream

    def listening(prompt: Any, decoding: Any) -> Any:
        seen.append(asked.tokenizer.decode(prompt.input_ids))
        return original(prompt, decoding)

    asked.engine.stream = listening
    out = io.StringIO()
    asked.converse(io.StringIO("first question\nsecond\n/reset\nthird\n"), out)
    assert len(seen) == 3
    assert "first question" in seen[1]
    assert "first question" not in seen[2]
    answers = out.getvalue()
    assert answers.strip()
    assert seen[1].count("<|im_start|>user") == 2


def test_streamed_answer_is_the_generated_one(trained: Path, folder: Path) -> None:
    asked = asking([f"run={trained}"], folder)
    out = io.StringIO()
    answer = asked.answer(out, "Write a function.")
    assert out.getvalue() == answer + "\n"
    path = folder / "questions.jsonl"
    rows = [
        {"instruction": "Write a function.", "kept": 1},
        {"id": 7, "prompt": "Write a function."},
        {"messages": [{"role": "user", "content": "Write a function."}]},
        {"instruction": "Write a function."},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    asked.config.output = str(folder / "answers.jsonl")
    asked.answer_file(path)
    lines = predictions_of(folder, "answers.jsonl")
    assert [line["completion"] for line in lines] == [answer] * 4
    assert lines[0]["kept"] == 1
    assert lines[1]["id"] == "7"
    assert len({line["id"] for line in lines}) == 4


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"output": "x"}, r"questions\.jsonl:1.*keys found: output"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, "in turn"),
        ({"messages": [{"role": "user"}]}, "in turn"),
    ],
)
def test_question_that_is_none_is_refused(row: Any, message: str, folder: Path) -> None:
    from ift_lightning.predicting import read_questions

    path = folder / "questions.jsonl"
    path.write_text(json.dumps(row) + "\n")
    with pytest.raises(UserError, match=message):
        list(read_questions(path))


def test_pieces_hold_back_what_may_vanish() -> None:
    from ift_lightning.predicting import pieces

    texts = ["ab", "ab\n#", "ab\n# c", "ab"]  # the last one was cut at a stop string
    assert "".join(pieces(texts, 4)) == "ab"
    assert list(pieces(["a", "a\ufffd", "a写", "a写"], 0)) == ["a", "写"]


def test_programs_that_cannot_be_contained_are_not_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from ift_lightning import evaluating
    from ift_lightning.evaluating import program_runner
    from ift_lightning.evaluation.items import item_of
    from ift_lightning.types import InstructionRecord

    def refuse(_: Any) -> Any:
        raise UserError("nothing here contains a program")

    monkeypatch.setattr(evaluating, "build_sandbox", refuse)
    config = compose_train()
    runnable = [item_of(InstructionRecord("a", "i", "", "o", tests=("assert f()",)), "p")]
    with program_runner(config, runnable, required=False) as sandbox:
        assert sandbox is None
    assert "not run: nothing here contains" in capsys.readouterr().out
    with pytest.raises(UserError, match="nothing here"), program_runner(config, runnable):
        pass
    plain = [item_of(InstructionRecord("a", "i", "", "o"), "p")]
    with program_runner(config, plain) as sandbox:
        assert sandbox is None


@pytest.mark.slow
def test_drills_are_generated_run_and_scored_at_both_ends_of_training(tmp_path: Path) -> None:
    from ift_lightning.finetuning import train

    config = compose_train(
        "data.num_train=32", "data.num_val=8", "data.num_test=16", "trainer.max_steps=2",
        f"data.cache_dir={tmp_path}", "trainer.progress_bar=false", "logger=none",
        run_dir=tmp_path / "run",
    )  # fmt: skip
    train(config)
    record = json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))
    assert record["environment"]["sandbox_level"]
    details = record["audit"]["evaluation"]["details"]
    for prefix in ("test", "before/test"):
        assert 0 <= record["metrics"][f"{prefix}/pass@1"] <= 1
        assert details[prefix]["execution"]["num_items"] == 13
    assert record["audit"]["evaluation"]["excluded"] == {}
    verdicts = [row["verdict"] for row in predictions_of(tmp_path / "run")]
    assert len([verdict for verdict in verdicts if verdict is not None]) == 13


@pytest.mark.slow
@pytest.mark.parametrize(("answer", "passed"), [("canonical_solution", 1.0), ("", 0.0)])
def test_every_humaneval_reference_passes_and_no_empty_body_does(
    answer: str, passed: float, tmp_path: Path
) -> None:
    data = shared_data_folder()
    if data is None:
        pytest.skip("HumanEval.jsonl.gz is not here")
    with gzip.open(data / "HumanEval.jsonl.gz", "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    lines = [{"task_id": r["task_id"], "completion": r.get(answer, "    pass")} for r in rows]
    given = tmp_path / "given.jsonl"
    given.write_text("".join(json.dumps(line) + "\n" for line in lines))
    record = evaluated(
        [f"predictions={given}", "data=humaneval", f"data.path={tmp_path / 'rows.jsonl'}"],
        tmp_path / "run",
    )
    assert record["data"]["num_test"] == 164
    assert record["audit"]["evaluation"]["excluded"] == {}
    assert record["metrics"]["test/pass@1"] == passed
    assert record["metrics"]["test/extraction_failures"] == 0.0


@pytest.mark.slow
def test_commands_from_the_shell(trained: Path, folder: Path) -> None:
    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", *words]
        return subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=120, check=False
        )

    result = run("ift_lightning.evaluate", f"run={trained}", "num_shown=1")
    assert result.returncode == 0, result.stderr
    assert "test/exact_match" in result.stdout
    result = run("ift_lightning.predict", f"run={trained}", "prompt=hello")
    assert result.returncode == 0, result.stderr
    assert not (folder / "predict.log").exists()
    result = run("ift_lightning.evaluate", f"run={folder}")
    assert result.returncode == 1
    assert "is no run folder" in result.stderr
    assert "Traceback" not in result.stderr
