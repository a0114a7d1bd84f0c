"""A run that was killed at any moment, and resumed, is the run that was never killed.

Everything that a checkpoint holds is compared bit for bit: weights, the optimizer's moments,
AdaLoRA's importances and ranks, random states, and where in the data the run is.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from killed_runs import (
    NUM_STEPS,
    KillAt,
    differences,
    everything_in,
    kill_while_writing,
    losses_of,
    prepare,
)
from two_ranks import on_two_ranks

from ift_lightning.errors import RankError, StoppedBySignal, UserError
from ift_lightning.training.checkpoints import read_header

METHODS_HERE = ("lora", "adalora")
pytestmark = pytest.mark.timeout(900)


def exit_code(work: Callable[[], None]) -> int | None:
    """Return how a child process ended that did the work."""
    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    child.join(300)
    return child.exitcode


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folders = {}
    for method in METHODS_HERE:
        folders[method] = tmp_path_factory.mktemp(f"whole-{method}")
        prepare(folders[method], method=method).fit()
    return folders


def resume(folder: Path, method: str) -> None:
    run = prepare(folder, method=method, seed=99 if has_checkpoint(folder) else 5)
    run.fit(resume=has_checkpoint(folder))
    assert run.trainer.global_step == NUM_STEPS


def has_checkpoint(folder: Path) -> bool:
    return (folder / "checkpoints" / "last.ckpt").is_file()


def assert_same(folder: Path, reference: Path) -> None:
    assert losses_of(folder) == losses_of(reference)
    for name in ("last", "best"):
        found = differences(everything_in(folder, name), everything_in(reference, name))
        assert found == [], name


KILLS = [
    ("micro-batch", 0),
    ("micro-batch", 4),
    ("optimizer", 3),
    ("step", 3),
    ("step", 4),
    ("validation", 3),
    ("validation", 6),
    # Files in the order of writing: last (step 2), best (3), last (4), best or last (6), …
    ("half", 1),
    ("half", 2),
    ("half", 3),
    ("flushed", 2),
    ("flushed", 3),
    ("renamed", 2),
    ("renamed", 4),
]


@pytest.mark.parametrize(("moment", "count"), KILLS)
@pytest.mark.parametrize("method", METHODS_HERE)
def test_killed_and_resumed(
    method: str, moment: str, count: int, uninterrupted: dict[str, Path], tmp_path: Path
) -> None:
    def work() -> None:
        if moment in ("half", "flushed", "renamed"):
            kill_while_writing(moment, count)
            prepare(tmp_path, method=method).fit()
        else:
            prepare(tmp_path, method=method, callbacks=(KillAt(moment, count),)).fit()

    assert exit_code(work) == -signal.SIGKILL
    resume(tmp_path, method)
    assert_same(tmp_path, uninterrupted[method])


def test_killed_again_and_again(uninterrupted: dict[str, Path], tmp_path: Path) -> None:
    for moment, step in [("micro-batch", 2), ("step", 3), ("validation", 6)]:

        def work(moment: str = moment, step: int = step) -> None:
            run = prepare(tmp_path, method="adalora", callbacks=(KillAt(moment, step),))
            run.fit(resume=has_checkpoint(tmp_path))

        assert exit_code(work) == -signal.SIGKILL
    resume(tmp_path, "adalora")
    assert_same(tmp_path, uninterrupted["adalora"])


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGUSR1])
@pytest.mark.parametrize(("moment", "step"), [("micro-batch", 4), ("step", 2), ("validation", 3)])
def test_a_signal_saves_at_the_end_of_the_step(
    moment: str,
    step: int,
    sent: signal.Signals,
    uninterrupted: dict[str, Path],
    tmp_path: Path,
) -> None:
    stopped = prepare(tmp_path, callbacks=(KillAt(moment, step, sent),))
    with pytest.raises(StoppedBySignal) as error:
        stopped.fit()
    assert error.value.signal_number == sent
    saved = read_header(stopped.last_checkpoint)["global_step"]
    assert saved == {"micro-batch": 5, "step": 3, "validation": 3}[moment]
    resume(tmp_path, "lora")
    assert_same(tmp_path, uninterrupted["lora"])


def test_dropout_and_the_order_of_rows_matter(
    uninterrupted: dict[str, Path], tmp_path: Path
) -> None:
    """Else equal runs would prove little."""
    prepare(tmp_path, seed=6).fit()
    assert losses_of(tmp_path) != losses_of(uninterrupted["lora"])
    whole = everything_in(uninterrupted["lora"])
    assert differences(everything_in(tmp_path), whole) != []
    loop = whole["header"]["loops"]["fit_loop"]
    assert loop["state_dict"]["combined_loader"] == [{"position": NUM_STEPS * 4}]


def test_a_checkpoint_that_is_not_whole_is_refused(tmp_path: Path) -> None:
    run = prepare(tmp_path)
    run.fit()
    data = run.last_checkpoint.read_bytes()
    for part in (data[: len(data) // 2], b"", b"not a checkpoint at all"):
        run.last_checkpoint.write_bytes(part)
        with pytest.raises(UserError, match=r"last\.ckpt cannot be read"):
            prepare(tmp_path).fit(resume=True)


def test_nothing_is_left_of_a_checkpoint_that_was_being_written(tmp_path: Path) -> None:
    assert exit_code(lambda: _die_half_way(tmp_path)) == -signal.SIGKILL
    left = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert [name for name in left if not name.startswith(".")] == ["best.ckpt", "last.ckpt"]
    assert read_header(tmp_path / "checkpoints" / "last.ckpt")["global_step"] == 2


def _die_half_way(folder: Path) -> None:
    kill_while_writing("half", 3)
    prepare(folder).fit()


def test_another_method_s_checkpoint_is_refused(tmp_path: Path) -> None:
    prepare(tmp_path, method="lora").fit()
    with pytest.raises(UserError, match="another model or method"):
        prepare(tmp_path, method="adalora").fit(resume=True)


def test_steps_cut_otherwise_go_on_with_the_same_rows(
    tmp_path: Path, uninterrupted: dict[str, Path]
) -> None:
    """Other micro-batches, as another number of processes makes them: the position is kept."""
    with pytest.raises(StoppedBySignal):
        prepare(tmp_path, callbacks=(KillAt("step", 2, signal.SIGTERM),)).fit()
    run = prepare(tmp_path, micro_batch_size=4)
    run.fit(resume=True)
    assert run.trainer.global_step == NUM_STEPS
    loop = everything_in(tmp_path)["header"]["loops"]["fit_loop"]
    assert loop["state_dict"]["combined_loader"] == [{"position": NUM_STEPS}]
    assert loop["epoch_loop.batch_progress"]["current"]["completed"] == NUM_STEPS
    expected = everything_in(uninterrupted["lora"])["header"]["callbacks"]["ProgressMetrics"]
    found = everything_in(tmp_path)["header"]["callbacks"]["ProgressMetrics"]
    assert found["num_target_tokens"] == expected["num_target_tokens"]


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp", "zero2", "zero3"])
def test_killed_and_resumed_in_two_processes(strategy: str, tmp_path: Path) -> None:
    """Either rank dies, in a step or while a shard is written; both are ended and started again."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    run = "killed_runs:train_on_ranks"
    on_two_ranks(run, {"folder": str(whole), "strategy": strategy}, tmp_path)
    for rank, moment, count in [(0, "half", 3), (1, "micro-batch", 4)]:
        arguments = {
            "folder": str(killed),
            "strategy": strategy,
            "kill_rank": rank,
            "moment": moment,
            "count": count,
        }
        with pytest.raises(RankError, match=f"rank {rank} was killed by SIGKILL"):
            on_two_ranks(run, arguments, tmp_path)
    on_two_ranks(run, {"folder": str(killed), "strategy": strategy, "seed": 99}, tmp_path)
    assert_same(killed, whole)
    shards = list((killed / "checkpoints" / "shards").glob("*"))
    assert len(shards) == (0 if strategy == "ddp" else 4), "of two checkpoints and two ranks"


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp", "zero2", "zero3"])
def test_two_processes_and_one_take_turns(strategy: str, tmp_path: Path) -> None:
    """Started on two and resumed on one, and the reverse: losses, rows and moments go on."""
    reference, shrunk, grown = (tmp_path / name for name in ("reference", "shrunk", "grown"))
    prepare(reference, dropout=0.0).fit()
    arguments: dict[str, Any] = {"strategy": strategy, "dropout": 0.0}
    stop = {"kill_rank": 1, "moment": "step", "count": 2, "sent": int(signal.SIGTERM)}
    with pytest.raises(StoppedBySignal):
        on_two_ranks(
            "killed_runs:train_on_ranks", {"folder": str(shrunk), **arguments, **stop}, tmp_path
        )
    prepare(shrunk, dropout=0.0).fit(resume=True)
    with pytest.raises(StoppedBySignal):
        prepare(grown, dropout=0.0, callbacks=(KillAt("step", 2, signal.SIGTERM),)).fit()
    on_two_ranks("killed_runs:train_on_ranks", {"folder": str(grown), **arguments}, tmp_path)
    expected = everything_in(reference)
    for folder, per_step in ((shrunk, 4), (grown, 2)):
        assert losses_of(folder) == pytest.approx(losses_of(reference), abs=1e-5)
        found = everything_in(folder)
        loop = found["header"]["loops"]["fit_loop"]["state_dict"]
        assert loop["combined_loader"] == [{"position": NUM_STEPS * per_step}]
        for name, weight in expected["parameters"].items():
            assert (found["parameters"][name] - weight).abs().max() <= 1e-5, name
            for key, value in expected["moments"][name].items():
                assert (found["moments"][name][key] - value).abs().max() <= 1e-5, (name, key)
        progress = [item["header"]["callbacks"]["ProgressMetrics"] for item in (found, expected)]
        assert progress[0]["num_target_tokens"] == progress[1]["num_target_tokens"]
