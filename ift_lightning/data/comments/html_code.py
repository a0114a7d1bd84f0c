"""Comments of HTML, of its scripts and of its style sheets."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from html.parser import HTMLParser

from ift_lightning.data.comments.directives import directive_of
from ift_lightning.data.comments.editing import Glue, remove_comments
from ift_lightning.data.comments.grammars import (
    as_bytes_text,
    find_comments,
    from_bytes_text,
    parse,
)
from ift_lightning.data.comments.outcome import StrippedCode, StripStatus

_SCRIPT_TYPE = re.compile(r"<script\b[^>]*\btype\s*=\s*[\"']?\s*([^\s\"'>;]*)", re.IGNORECASE)
_JAVASCRIPT_TYPES = ("", "module", "text/babel", "text/jsx")
# A page, a part of one, or a template of one.
_BEGINS = re.compile(r"\s*(?:<[!?A-Za-z]|\{[%{#])")


def begins_like_html(text: str) -> bool:
    """Return whether a text begins with a tag, a declaration or a template's bracket."""
    return _BEGINS.match(text) is not None


StripNested = Callable[[str, str], StrippedCode]


def strip_html(text: str, strip_nested: StripNested) -> StrippedCode:
    """Take the comments out of HTML, and prove that the page stays as it is.

    The proof is a second parser's: the same tags, attributes and texts, blanks in a row counting
    as one. Comments in ``<textarea>`` and ``<title>`` are text and stay.

    Args:
        text: HTML that begins with a tag or a template's bracket.
        strip_nested: Strips the JavaScript or the CSS in it, from language and code. Where that
            fails, the page is left as it was.
    """
    if not begins_like_html(text):
        return StrippedCode(text, StripStatus.NOT_PARSABLE, "does not begin with a tag")
    code = as_bytes_text(text)
    parsed = parse("html", code)
    if parsed is None:
        return StrippedCode(text, StripStatus.NOT_PARSABLE, "not valid html")
    counts: Counter[str] = Counter()
    comments = find_comments("html", parsed)
    removed = [comment for comment in comments if not comment.directive]
    counts["removed:comment"] = len(removed)
    counts.update(f"kept:{comment.directive}" for comment in comments if comment.directive)
    pieces, position = [], 0
    stripped = remove_comments(code, removed, Glue.TEXT)
    inner = parse("html", stripped)
    if inner is None:
        return StrippedCode(
            text, StripStatus.PROOF_FAILED, "there would have been a new syntax error", +counts
        )
    cursor = [inner.tree.root_node]
    while cursor:
        node = cursor.pop()
        cursor.extend(reversed(node.children))
        if node.type not in ("script_element", "style_element"):
            continue
        raw = next((child for child in node.children if child.type == "raw_text"), None)
        language = _nested_language(stripped[node.start_byte : node.end_byte])
        if raw is None or not language:
            continue
        nested = strip_nested(language, from_bytes_text(stripped[raw.start_byte : raw.end_byte]))
        if nested.status not in (StripStatus.CHANGED, StripStatus.UNCHANGED):
            reason = f"its {language}: {nested.reason}"
            return StrippedCode(text, nested.status, reason, +counts)
        counts.update(nested.counts)
        pieces += [stripped[position : raw.start_byte], as_bytes_text(nested.text)]
        position = raw.end_byte
    result = from_bytes_text("".join(pieces) + stripped[position:])
    if not counts["removed:comment"]:
        return StrippedCode(text, StripStatus.UNCHANGED, "", +counts)
    if _page(result) != _page(text):
        return StrippedCode(text, StripStatus.PROOF_FAILED, "the page would have changed", +counts)
    after = parse("html", as_bytes_text(result))
    if after is None or any(not comment.directive for comment in find_comments("html", after)):
        return StrippedCode(text, StripStatus.PROOF_FAILED, "a comment is left", +counts)
    return StrippedCode(result, StripStatus.CHANGED, "", +counts)


def _nested_language(element: str) -> str:
    if element[:6].lower() == "<style":
        return "css"
    match = _SCRIPT_TYPE.match(element)
    kind = match[1].lower() if match else ""
    return "javascript" if kind in _JAVASCRIPT_TYPES or "javascript" in kind else ""


class _Page(HTMLParser):
    """Collects what a page consists of, comments for people left out."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=False)
        self.events: list[tuple[str, str]] = []
        self._open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.events.append(("start", repr((tag, attrs))))
        if tag in ("pre", "textarea", "listing", "script", "style"):
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.events.append(("single", repr((tag, attrs))))

    def handle_endtag(self, tag: str) -> None:
        self.events.append(("end", tag))
        if tag in self._open:
            while self._open.pop() != tag:
                pass

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] in ("script", "style"):
            return  # proven on its own
        if not self._open:
            data = re.sub(r"[ \t\r\n\f]+", " ", data)
        if self.events and self.events[-1][0] == "text":
            data = self.events.pop()[1] + data
            if not self._open:
                data = re.sub(r" +", " ", data)
        self.events.append(("text", data))

    def handle_entityref(self, name: str) -> None:
        self.events.append(("entity", name))

    def handle_charref(self, name: str) -> None:
        self.events.append(("entity", name))

    def handle_comment(self, data: str) -> None:
        comment = f"<!--{data}-->"
        if directive_of("html", comment, 1, is_alone=True):
            self.events.append(("comment", comment))

    def handle_decl(self, decl: str) -> None:
        self.events.append(("declaration", decl))

    def handle_pi(self, data: str) -> None:
        self.events.append(("instruction", data))

    def unknown_decl(self, data: str) -> None:
        self.events.append(("declaration", data))


def _page(text: str) -> list[tuple[str, str]]:
    page = _Page()
    page.feed(text)
    page.close()
    events = page.events
    # Blanks at the very beginning and end are no content.
    trimmed = [(kind, data.strip(" ") if kind == "text" else data) for kind, data in events[:1]]
    trimmed += events[1:-1]
    if len(events) > 1:
        kind, data = events[-1]
        trimmed.append((kind, data.strip(" ") if kind == "text" else data))
    return [event for event in trimmed if event != ("text", "")]
