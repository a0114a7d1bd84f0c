"""Lines that only a notebook understands: ``%matplotlib inline``, ``!pip install``, ``?help``."""

from __future__ import annotations

import re
from dataclasses import dataclass

_LINE = re.compile(
    r"^(?P<indent>[ \t]*)(?:"
    r"(?P<target>[\w.,\[\] \t]+=[ \t]*)?(?P<magic>%{1,2}[A-Za-z]\w*[^\r\n]*|!{1,2}[^\s=][^\r\n]*)"
    r"|(?P<help>\?{1,2}[\w.%*]+[ \t]*|%{0,2}[A-Za-z_][\w.]*\?{1,2}[ \t]*)"
    r")(?=\r?$)",
    re.MULTILINE,
)
# Other cell magics hand the cell to another language.
_PYTHON_CELLS = re.compile(r"%%(?:time|timeit|capture|prun|memit|python3?|pypy)\b")


@dataclass(frozen=True, slots=True)
class MaskedCode:
    """Code with names in the place of magics."""

    code: str
    magics: tuple[str, ...]
    prefix: str

    @property
    def num_magics(self) -> int:
        return len(self.magics)

    def restore(self, code: str) -> str:
        """Put the magics back."""
        return re.sub(rf"{self.prefix}(\d+)_", lambda match: self.magics[int(match[1])], code)


def mask_magics(code: str) -> MaskedCode | None:
    """Replace magics by names, so that the rest is Python; None where there are none.

    A cell that a magic hands to another language, such as ``%%bash``, has none that can be masked.
    """
    first = code.lstrip()
    if first.startswith("%%") and not _PYTHON_CELLS.match(first):
        return None
    prefix = "magic_"
    while prefix in code:
        prefix += "_"
    magics: list[str] = []

    def name(match: re.Match[str]) -> str:
        magics.append(match["magic"] or match["help"])
        return f"{match['indent']}{match['target'] or ''}{prefix}{len(magics) - 1}_"

    masked = _LINE.sub(name, code)
    return MaskedCode(masked, tuple(magics), prefix) if magics else None
