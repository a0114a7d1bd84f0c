"""What each logger leaves behind, read back with the reader of its own project."""

from __future__ import annotations

import csv
import json
import os
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from test_train import configured, record_of, run, write_rows  # noqa: F401

from ift_lightning.errors import UserError
from ift_lightning.reporting.curves import read_curves


@pytest.fixture
def contacts(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Make a server on this machine the proxy for everything, and return who came to it."""
    found: list[str] = []
    server = socket.create_server(("127.0.0.1", 0))
    address = f"http://127.0.0.1:{server.getsockname()[1]}"

    def accept() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:  # closed
                return
            with connection:
                connection.settimeout(5)
                found.append(connection.recv(200).decode(errors="replace"))

    threading.Thread(target=accept, daemon=True).start()
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, address)
        monkeypatch.setenv(name.upper(), address)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    yield found
    server.close()


def read_offline_run(folder: Path) -> dict[str, Any]:
    """Return what lies in the file of an offline run of W&B."""
    from wandb.proto import wandb_internal_pb2
    from wandb.sdk.internal.datastore import DataStore

    (path,) = folder.glob("*.wandb")
    store = DataStore()
    store.open_for_scan(str(path))
    result: dict[str, Any] = {"history": [], "config": {}, "summary": {}, "exit_code": None}
    while (data := store.scan_data()) is not None:
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        kind = record.WhichOneof("record_type")
        if kind == "history":
            result["history"].append(
                {
                    item.key or "/".join(item.nested_key): json.loads(item.value_json)
                    for item in record.history.item
                }
            )
        elif kind in ("config", "summary"):
            for item in getattr(record, kind).update:
                name = item.key or "/".join(item.nested_key)
                result[kind][name] = json.loads(item.value_json)
        elif kind == "run":
            result["name"], result["project"] = record.run.display_name, record.run.project
        elif kind == "exit":
            result["exit_code"] = record.exit.exit_code
    return result


@pytest.mark.slow
def test_wandb_runs_are_whole_and_stay_on_this_machine(
    run: Callable[..., Path],  # noqa: F811
    tmp_path: Path,
    contacts: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wandb = pytest.importorskip("wandb")
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    try:
        folder = run("logger=wandb", "trainer.max_steps=3", folder="good")
        with pytest.raises(UserError, match="diverged"):
            run(
                "logger=wandb",
                "optimizer.lr=1e30",
                "trainer.gradient_clip_norm=null",
                "scheduler=constant",
                folder="bad",
            )
        assert wandb.run is None
    finally:
        wandb.teardown()
    assert contacts == []
    # An opener of its own: the common one keeps the proxies of the first request of the process.
    with pytest.raises((urllib.error.URLError, OSError)):
        urllib.request.build_opener().open("http://api.wandb.ai/", timeout=5)
    assert "api.wandb.ai" in contacts[0]  # the trap works

    record = record_of(folder)
    (offline,) = (folder / "wandb").glob("offline-run-*")
    found = read_offline_run(offline)
    assert (found["name"], found["project"]) == (record["name"], "ift_lightning")
    assert found["exit_code"] == 0
    losses = [
        (row["trainer/global_step"], row["train/loss"])
        for row in found["history"]
        if "train/loss" in row
    ]
    assert [step for step, _ in losses] == [1, 2, 3]
    assert losses[-1][1] == record["metrics"]["train/loss"]
    assert record["metrics"]["val/loss"] in [row.get("val/loss") for row in found["history"]]
    for name, value in record["metrics"].items():
        assert found["summary"][f"final/{name}"] == value
    trained = record["model"]["num_trainable_parameters"]
    assert found["config"]["peft"] == "lora"
    assert found["config"]["num_trainable_parameters"] == trained
    (table,) = (offline / "files" / "media" / "table").glob("samples*.json")
    samples = json.loads(table.read_text(encoding="utf-8"))["data"]
    assert len(samples) == 4
    assert "⟦def add(value):" in samples[0][0]
    # A run of the same process that failed has a file of its own, and says that it failed.
    (failed,) = (tmp_path / "bad" / "wandb").glob("offline-run-*")
    assert read_offline_run(failed)["exit_code"] == 1


def test_csv_has_curves_and_hyperparameters(run: Callable[..., Path]) -> None:  # noqa: F811
    folder = run("logger=csv", "peft=prompt", "trainer.max_steps=3")
    record = record_of(folder)
    with (folder / "csv" / "metrics.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    losses = [(int(row["step"]), float(row["train/loss"])) for row in rows if row["train/loss"]]
    assert [step for step, _ in losses] == [1, 2, 3]
    assert losses[-1][1] == record["metrics"]["train/loss"]
    curves = read_curves(folder)
    assert curves["train/loss"] == losses
    assert curves["val/loss"][-1] == (3, pytest.approx(record["metrics"]["val/loss"], rel=1e-6))
    shown = yaml.safe_load((folder / "csv" / "hparams.yaml").read_text(encoding="utf-8"))
    assert (shown["peft"], shown["seed"]) == ("prompt", 0)
    assert shown["num_trainable_parameters"] == record["model"]["num_trainable_parameters"]
    assert "num_virtual_tokens" in shown["peft_config"]


def read_hyperparameters(folder: Path) -> dict[str, Any]:
    """Return what TensorBoard's plugin for hyperparameters reads from a run."""
    from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer
    from tensorboard.plugins.hparams import metadata

    events = EventMultiplexer()
    events.AddRunsFromDirectory(str(folder))
    events.Reload()
    result: dict[str, Any] = {}
    for name in events.Runs():
        accumulator = events.GetAccumulator(name)
        tags = accumulator.SummaryMetadata
        found: dict[str, Any] = {}
        for tag in accumulator.PluginTagToContent("hparams"):
            content = tags(tag).plugin_data.content
            if tag == metadata.SESSION_START_INFO_TAG:
                start = metadata.parse_session_start_info_plugin_data(content)
                found["parameters"] = {
                    key: getattr(value, value.WhichOneof("kind"))
                    for key, value in start.hparams.items()
                }
            elif tag == metadata.SESSION_END_INFO_TAG:
                end = metadata.parse_session_end_info_plugin_data(content)
                found["status"] = end.status
            elif tag == metadata.EXPERIMENT_TAG:
                experiment = metadata.parse_experiment_plugin_data(content)
                found["metrics"] = {info.name.tag for info in experiment.metric_infos}
        found["values"] = {
            tag: accumulator.Scalars(tag)[-1].value
            for tag in accumulator.Tags()["scalars"]
            if tag.startswith("final/")
        }
        result[name] = found
    return result


def test_tensorboard_fills_the_hyperparameters_of_a_sweep(
    run: Callable[..., Path],  # noqa: F811
    tmp_path: Path,
) -> None:
    from tensorboard.plugins.hparams import api_pb2

    methods = ("lora", "prompt")
    folders = [
        run(f"peft={method}", "trainer.max_steps=2", folder=f"sweep/{index}")
        for index, method in enumerate(methods)
    ]
    sessions = read_hyperparameters(tmp_path / "sweep")
    for index, (method, folder) in enumerate(zip(methods, folders, strict=True)):
        record = record_of(folder)
        session = sessions[f"{index}/tensorboard"]
        parameters = session["parameters"]
        assert parameters["peft"] == method
        assert parameters["learning_rate"] == pytest.approx({"lora": 8e-3, "prompt": 0.3}[method])
        count = record["model"]["num_trainable_parameters"]
        assert parameters["num_trainable_parameters"] == count
        assert session["status"] == api_pb2.STATUS_SUCCESS
        expected = {f"final/{name}": value for name, value in record["metrics"].items()}
        assert session["metrics"] == set(expected)
        assert session["values"] == {
            name: pytest.approx(value, rel=1e-6) for name, value in expected.items()
        }


def search(
    folder: Path, model: Path, *options: str, status: int = 0
) -> tuple[list[dict[str, Any]], Any]:
    """Search with Optuna; return the records of its trials, and what it found best."""
    result = subprocess.run(
        [
            sys.executable,
            "-m",
            "ift_lightning.train",
            "--multirun",
            "hydra/sweeper=optuna",
            f"hydra.sweep.dir={folder / 'search'}",
            "model=local",
            f"model.path={model}",
            "data=jsonl",
            f"data.path={write_rows(folder / 'rows.json')}",
            "data.val_fraction=0.2",
            f"data.cache_dir={folder / 'cache'}",
            "trainer=smoke",
            "trainer.progress_bar=false",
            "measure_before=false",
            *options,
        ],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert result.returncode == status, result.stderr[-2000:]
    records = [record_of(path.parent) for path in (folder / "search").glob("*/run.json")]
    best = folder / "search" / "optimization_results.yaml"
    return records, yaml.safe_load(best.read_text(encoding="utf-8"))


def rate_of(record: dict[str, Any]) -> float:
    (rate,) = [word for word in record["overrides"] if word.startswith("optimizer.lr=")]
    return float(rate.partition("=")[2])


@pytest.mark.slow
def test_optuna_searches_for_the_lowest_validation_loss(
    tmp_path: Path, model_folder: Callable[[str], Path]
) -> None:
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    options = (
        "hydra.sweeper.sampler.seed=0",
        "hydra.sweeper.n_trials=2",
        "optimizer.lr=interval(1e-4,1e-1)",
    )
    records, best = search(tmp_path, model_folder("llama"), *options)
    losses = {rate_of(record): record["metrics"]["val/loss"] for record in records}
    assert len(losses) == 2
    assert all(1e-4 <= rate <= 1e-1 for rate in losses)
    assert best["best_value"] == pytest.approx(min(losses.values()))
    found = best["best_params"]["optimizer.lr"]
    assert losses[found] == min(losses.values())


@pytest.mark.slow
def test_a_trial_that_fails_does_not_end_the_search(
    tmp_path: Path, model_folder: Callable[[str], Path]
) -> None:
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    records, best = search(
        tmp_path,
        model_folder("llama"),
        "hydra.sweeper.sampler.seed=0",  # draws each of the two once
        "optimizer.lr=choice(1e-3,1e30)",
        "hydra.sweeper.n_trials=2",
        "scheduler=constant",
        "trainer.gradient_clip_norm=null",
        status=1,  # as of any sweep that has a failed point
    )
    assert {rate_of(record): record["status"] for record in records} == {
        1e-3: "completed",
        1e30: "failed",
    }
    assert best["best_params"] == {"optimizer.lr": 1e-3}
