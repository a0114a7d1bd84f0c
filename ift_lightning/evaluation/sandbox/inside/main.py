"""Where the interpreter inside the sandbox starts; ``worker.BOOTSTRAP`` brings it here."""

from __future__ import annotations

import os
import sys
from typing import Any

from . import kernel, lockdown, root, wire, zygote

BUILD_NAMESPACES = "build_namespaces"


def main(start: dict[str, Any]) -> None:
    """Build what the level needs, then serve programs until standard input closes.

    Args:
        start: ``settings`` (of :class:`lockdown.Settings`), ``privileged``, and ``build``, which
            says whether this process has to make its own namespaces.
    """
    settings = lockdown.Settings.from_json(start["settings"])
    try:
        if start["build"]:
            root.enter_namespaces(privileged=start["privileged"])
            root.build(settings.readable)
        kernel.die_with_parent()
        kernel.forbid_inspection()
        zygote.serve(settings)
    except Exception as error:
        wire.write_all(1, wire.frame(f"failed: {type(error).__name__}: {error}".encode()))
        sys.exit(1)
    os._exit(0)
