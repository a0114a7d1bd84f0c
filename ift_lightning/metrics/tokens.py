"""Tokens of code and of languages that are written without spaces."""

from __future__ import annotations

import re

# Han, Hiragana, Katakana and Hangul: one token a character.
_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0002fa1f"
_TOKEN = re.compile(rf"[{_CJK}]|[^\W{_CJK}]+|[^\w\s]")


def code_and_cjk_tokens(text: str) -> list[str]:
    """Split a text into words, numbers and names, single CJK characters, and single signs.

    Case counts, and white space does not: ``x_1 += f(总数)`` has the tokens ``x_1``, ``+``, ``=``,
    ``f``, ``(``, ``总``, ``数`` and ``)``.
    """
    return _TOKEN.findall(text)
