"""The live table of a sweep, drawn by a thread beside it from the points' records."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.table import Table

from ift_lightning.sweeps.progress import Progress, clock, read_progress, seconds_left

_LOOK_EVERY = 1.0  # seconds
_COLORS = {"completed": "green", "reused": "green", "failed": "red", "training": "cyan"}
_ENDED = ("completed", "reused", "failed")
_FRAME = 6  # lines of a table that are no points


class LiveTable:
    """Shows where the points stand until it is closed.

    On a terminal it is a table that is drawn anew; elsewhere, a line whenever a point begins or
    ends, and one now and then while they train.

    Args:
        folders: The points' folders, in the sweep's order.
        line_seconds: Time between progress lines where the output is no terminal.
    """

    def __init__(self, folders: Sequence[Path], *, line_seconds: float = 30.0) -> None:
        self.folders = list(folders)
        self.line_seconds = line_seconds
        self.started = time.time()
        # Points send what they print elsewhere; this copy still leads to where the user looks.
        self._file = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
        self._console = Console(file=self._file)
        self._stop = threading.Event()
        self._before = {folder: read_progress(folder) for folder in self.folders}
        self._shown: dict[str, str] = {
            item.name: item.status for item in self._before.values() if item.status in _ENDED[:2]
        }
        self._last_line = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="sweep table", daemon=True)
        self._thread.start()

    def close(self) -> list[Progress]:
        """Stop drawing; return where the points stand."""
        if self._thread.is_alive():
            self._stop.set()
            self._thread.join()
        if not self._file.closed:
            self._file.close()
        return self.points()

    def points(self) -> list[Progress]:
        """Return where the points stand now."""
        return [read_progress(folder, since=self.started) for folder in self.folders]

    def _run(self) -> None:
        if not self._console.is_terminal:
            while not self._stop.wait(_LOOK_EVERY):
                self._print_changes(self.points())
            self._print_changes(self.points())
            return
        with Live(
            self._draw(self.points()), console=self._console, auto_refresh=False, transient=False
        ) as live:
            while not self._stop.wait(_LOOK_EVERY):
                live.update(self._draw(self.points()), refresh=True)
            live.update(self._draw(self.points()), refresh=True)

    def _left(self, points: Sequence[Progress]) -> float | None:
        ended = {folder.name for folder, item in self._before.items() if item.status in _ENDED[:2]}
        open_points = [
            point for point in points if point.name not in ended and point.status != "reused"
        ]
        return seconds_left(open_points, time.time() - self.started)

    def _draw(self, points: Sequence[Progress]) -> Table:
        counts = Counter(point.status for point in points)
        done = sum(counts[status] for status in _ENDED)
        left = clock(self._left(points))
        table = Table(
            caption=f"{done} of {len(points)} points done, {clock(time.time() - self.started)} so "
            f"far{f', about {left} left' if left and done < len(points) else ''}",
            caption_justify="left",
        )
        table.add_column("point", overflow="fold")
        table.add_column("status")
        for name in ("step", "loss", "left", "score"):
            table.add_column(name, justify="right")
        for point in _that_fit(points, self._console.height - _FRAME):
            color = _COLORS.get(point.status, "")
            status = f"[{color}]{point.status}[/]" if color else point.status
            table.add_row(point.name, status, *_cells(point))
        return table

    def _print_changes(self, points: Sequence[Progress]) -> None:
        done = 0
        for point in points:
            done += point.status in _ENDED
            if self._shown.get(point.name, "waiting") == point.status:
                continue
            self._shown[point.name] = point.status
            if point.status in ("training", *_ENDED, "interrupted"):
                self._say(f"{point.name}: {point.status}{_details(point)}")
        if time.monotonic() - self._last_line < self.line_seconds:
            return
        running = [point for point in points if point.status in ("training", "scoring")]
        if running:
            left = clock(self._left(points))
            steps = "; ".join(
                f"{point.name} {point.step}/{point.num_steps}"
                f"{f' loss {point.loss:.4f}' if point.loss is not None else ''}"
                for point in running
            )
            ahead = f", about {left} left" if left else ""
            self._say(f"{done} of {len(points)} points done{ahead}; {steps}")

    def _say(self, line: str) -> None:
        self._last_line = time.monotonic()
        print(line, file=self._file)


def _that_fit(points: Sequence[Progress], num_lines: int) -> list[Progress]:
    """Return the points to show: all, or those that run and failed, the last ended and the next."""
    if len(points) <= num_lines:
        return list(points)
    active = [point for point in points if point.status not in ("waiting", "completed", "reused")]
    room = max(num_lines - len(active), 0)
    ended = [point for point in points if point.status in ("completed", "reused")]
    waiting = [point for point in points if point.status == "waiting"]
    num_waiting = min(len(waiting), max(room // 3, room - len(ended)))
    num_ended = min(len(ended), room - num_waiting)
    last_ended = ended[len(ended) - num_ended :]
    shown = {point.name for point in active + last_ended + waiting[:num_waiting]}
    return [point for point in points if point.name in shown][: max(num_lines, 1)]


def _cells(point: Progress) -> tuple[str, str, str, str]:
    step = f"{point.step}/{point.num_steps}" if point.num_steps else ""
    loss = f"{point.loss:.4f}" if point.loss is not None else ""
    score = f"{point.score[0].removeprefix('test/')} {point.score[1]:.4f}" if point.score else ""
    return step, loss, clock(point.seconds_left), point.error or score


def _details(point: Progress) -> str:
    if point.error:
        return f": {point.error}"
    return f", {point.score[0]} {point.score[1]:.4f}" if point.score else ""
