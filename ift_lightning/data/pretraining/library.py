"""Text that people wrote: files of Python's own standard library (PSF licence)."""

from __future__ import annotations

import sysconfig
from pathlib import Path

_MODULES = (
    "textwrap", "bisect", "heapq", "statistics", "string", "shlex", "fnmatch", "glob", "copy",
    "colorsys", "calendar", "keyword", "linecache", "operator", "queue", "random", "reprlib",
    "sched", "stat", "tabnanny", "timeit", "token", "types", "weakref", "csv",
    "collections/__init__", "functools", "json/decoder", "json/encoder", "html/parser",
    "dataclasses", "difflib", "fractions", "contextlib", "abc", "argparse", "ast", "base64",
    "cmd", "code", "configparser", "datetime", "decimal", "enum", "getopt", "gettext",
    "graphlib", "hashlib", "inspect", "ipaddress", "numbers", "pprint", "pathlib", "shutil",
    "tempfile", "tokenize", "traceback", "typing", "uuid", "zipapp",
)  # fmt: skip


def library_texts() -> list[str]:
    """Return source files of this interpreter's standard library, always in the same order.

    They change with the version of Python; one that a version does not have is left out.
    """
    root = Path(sysconfig.get_paths()["stdlib"])
    paths = (root / f"{name}.py" for name in _MODULES)
    return [path.read_text(encoding="utf-8") for path in paths if path.exists()]
