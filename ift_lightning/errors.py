"""Errors that are addressed to the person at the keyboard.

An entry point prints the message of a :class:`UserError` without a traceback and exits with
status 1. Every other exception is a defect of ours and keeps its traceback.
"""

from __future__ import annotations

import difflib
import signal
from collections.abc import Iterable


class UserError(ValueError):
    """Something the user gave or asked for cannot be used as it is.

    The message says what was wrong, where (file, line, field or option), and what to do about it.
    """


class BadRowError(UserError):
    """One row of a data file cannot be used; carries the field so that a report can group by it."""

    def __init__(self, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class NotAvailableYetError(UserError):
    """An option that is part of the command line but that this version cannot carry out."""


class RankError(RuntimeError):
    """One of the processes of a run failed; the message says which, and how."""


class StoppedBySignal(SystemExit):
    """A signal asked the run to stop; it has saved what it needs to go on."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(128 + signal_number)
        self.signal_number = signal_number

    def __str__(self) -> str:
        return f"stopped by {signal.Signals(self.signal_number).name}"


def suggest(word: str, valid: Iterable[str]) -> str:
    """Return "did you mean ...? valid: ..." for a misspelt ``word``, as one line."""
    options = sorted(valid)
    close = difflib.get_close_matches(word, options, n=1)
    hint = f"Did you mean '{close[0]}'? " if close else ""
    return f"{hint}Valid: {', '.join(options)}"
