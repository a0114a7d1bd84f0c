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


def slow(moment: str, count: int) -> Any:
    return pytest.param(moment, count, marks=pytest.mark.slow)


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


# Every kind of moment in the fast tests, the others in the slow ones.
KILLS = [
    slow("micro-batch", 0),
    ("micro-batch", 4),
    slow("optimizer", 3),
    slow("step", 3),
    ("step", 4),
    slow("validation", 3),
    ("validation", 6),
    # Files in the order of writing: last (step 2), best (3), last (4), best or last (6), …
    slow("half", 1),
    slow("half", 2),
    ("half", 3),
    slow("flushed", 2),
    ("flushed", 3),
    slow("renamed", 2),
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
    whole = ["best.ckpt", "last.ckpt"]
    parts, left = [], []
    for path in (tmp_path / "checkpoints").iterdir():
        (parts if path.name.startswith(".") else left).append(path.name)
    assert (len(parts), sorted(left)) == (1, whole)
    assert read_header(tmp_path / "checkpoints" / "last.ckpt")["global_step"] == 2
    resume(tmp_path, "lora")
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == whole


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


STRATEGIES_HERE = ("ddp", "fsdp", "zero2", "zero3")
TRAIN = "killed_runs:train_on_ranks"


@pytest.fixture(scope="module")
def uninterrupted_in_two(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Runs of every strategy in two processes, which are started once for all of them."""
    folder = tmp_path_factory.mktemp("whole-in-two")
    folders = {name: folder / name for name in STRATEGIES_HERE}
    runs = [{"folder": str(path), "strategy": name} for name, path in folders.items()]
    on_two_ranks(TRAIN, {"runs": runs}, folder)
    return folders


KILLS_IN_TWO = {
    "ddp": [(0, "half", 3)],
    "fsdp": [(0, "half", 3), (1, "micro-batch", 4)],
    "zero2": [(1, "micro-batch", 4)],
    "zero3": [(1, "half", 3)],
}


@pytest.mark.slow
@pytest.mark.parametrize("strategy", STRATEGIES_HERE)
def test_killed_and_resumed_in_two_processes(
    strategy: str, uninterrupted_in_two: dict[str, Path], tmp_path: Path
) -> None:
    """A rank dies, in a step or while a shard is written; both are ended and started again."""
    run = {"folder": str(tmp_path), "strategy": strategy}
    for rank, moment, count in KILLS_IN_TWO[strategy]:
        kill = {"kill_rank": rank, "moment": moment, "count": count}
        with pytest.raises(RankError, match=f"rank {rank} was killed by SIGKILL"):
            on_two_ranks(TRAIN, {"runs": [{**run, **kill}]}, tmp_path)
    on_two_ranks(TRAIN, {"runs": [{**run, "seed": 99}]}, tmp_path)
    assert_same(tmp_path, uninterrupted_in_two[strategy])
    shards = list((tmp_path / "checkpoints" / "shards").glob("*"))
    assert len(shards) == (0 if strategy == "ddp" else 4), "of two checkpoints and two ranks"


@pytest.fixture(scope="module")
def took_turns(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs that are begun on two processes and ended on one, and the reverse."""
    folder = tmp_path_factory.mktemp("turns")
    stop = {"kill_rank": 1, "moment": "step", "count": 2, "sent": int(signal.SIGTERM)}
    begun, ended = [], []
    for strategy in STRATEGIES_HERE:
        how = {"strategy": strategy, "dropout": 0.0}
        begun.append({"folder": str(folder / f"shrunk-{strategy}"), **how, **stop})
        grown = folder / f"grown-{strategy}"
        ended.append({"folder": str(grown), **how})
        with pytest.raises(StoppedBySignal):
            prepare(grown, dropout=0.0, callbacks=(KillAt("step", 2, signal.SIGTERM),)).fit()
    on_two_ranks(TRAIN, {"runs": [*begun, *ended]}, folder)
    prepare(folder / "reference", dropout=0.0).fit()
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("strategy", STRATEGIES_HERE)
def test_two_processes_and_one_take_turns(strategy: str, took_turns: Path) -> None:
    """Losses, rows and moments go on, whatever the number of processes becomes."""
    reference, shrunk, grown = (
        took_turns / name for name in ("reference", f"shrunk-{strategy}", f"grown-{strategy}")
    )
    assert read_header(shrunk / "checkpoints" / "last.ckpt")["global_step"] == 3
    prepare(shrunk, dropout=0.0).fit(resume=True)
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
