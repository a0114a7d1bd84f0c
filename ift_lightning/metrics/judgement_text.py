"""Finds the judgement that an answer states, however it is dressed."""

from __future__ import annotations

import re
import unicodedata

_GAP = r"[^\S\n]"  # white space within a line
_DRESSING = "*_`\"'“”‘’「」『』【】[]<>《》 \t\u3000"
_FIELD = re.compile(
    rf"(?:判断(?:结果|结论)?|(?<![A-Za-z])(?i:judge?ment))[*_`\"'”’】]*{_GAP}*[:：∶]"
)
_REASON = re.compile(r"[\W_]*(?:原因|理由|(?i:reason))")
# What ends a judgement within its line. A space does behind a CJK character only, since English
# judgements have several words ("no defect"). "、" and "/" list alternatives, and do not.
_END = re.compile(
    rf"[，,;；。!！（(|:：—]|\.(?=\s|$)|{_GAP}-+{_GAP}|(?<=[\u3400-\u9fff])[\s\"'*`”」』】]"
)


def parse_judgement(answer: str) -> str | None:
    """Return the judgement of an answer such as ``判断:有缺陷``; None where it states none.

    The judgement is what stands behind ``判断``, ``判断结果``, ``judgement`` or ``judgment`` and a
    colon, half- or full-width, up to a punctuation mark or the end of the line; if the line ends
    there, the next one that is not the reason. Markdown, quotes, brackets and JSON around it are
    taken off. The first judgement counts.
    """
    for field in _FIELD.finditer(answer):
        lines = answer[field.end() :].lstrip(_DRESSING).split("\n")
        line = lines[0]
        if not line.strip(_DRESSING):
            following = (text for text in lines[1:] if text.strip(_DRESSING))
            line = next(following, "")
            if _REASON.match(line):
                continue
        found = _END.split(line.strip().lstrip(_DRESSING), maxsplit=1)[0].strip(_DRESSING)
        if found:
            return found
    return None


def normalized_judgement(judgement: str) -> str:
    """Return the form in which judgements are compared: width, case and spaces do not count."""
    return " ".join(unicodedata.normalize("NFKC", judgement).casefold().split())
