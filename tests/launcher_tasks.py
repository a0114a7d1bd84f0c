"""What the launcher's ranks do in its tests; nothing here imports torch."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

from ift_lightning.errors import StoppedBySignal, UserError
from ift_lightning.training.launcher import rank_main


def work(task: dict[str, Any]) -> Any:
    """Do what the task says for this rank."""
    rank = int(os.environ["RANK"])
    folder = Path(task["folder"])
    (folder / f"pid-{rank}").write_text(str(os.getpid()))
    what = task["ranks"][rank]
    print(f"rank {rank} does {what}", flush=True)
    if what == "return":
        return {"world": os.environ["WORLD_SIZE"], "threads": os.environ["OMP_NUM_THREADS"]}
    if what == "user error":
        raise UserError("data.path=nowhere: there is no such file")
    if what == "bug":
        raise ZeroDivisionError("a number over none")
    if what == "echo":
        time.sleep(0.5)
        raise RuntimeError("[gloo/transport/tcp/pair.cc:553] Connection closed by peer [::1]")
    if what == "die":
        time.sleep(0.3)
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "stop late":
        time.sleep(4.0)
        (folder / "saved").touch()
    if what in ("stop", "stop late"):
        raise StoppedBySignal(signal.SIGUSR2)
    if what == "wait for signal":
        received: list[int] = []
        signal.signal(signal.SIGTERM, lambda number, _: received.append(number))
        signal.signal(signal.SIGUSR1, lambda number, _: received.append(number))
        (folder / f"ready-{rank}").touch()
        while not received:
            time.sleep(0.05)
        raise StoppedBySignal(received[0])
    assert what == "hang", what
    time.sleep(600)
    return None


if __name__ == "__main__":
    rank_main(work)
