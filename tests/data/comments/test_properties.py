"""Made-up programs of every C-like language, with comments between any two tokens."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from ift_lightning.data.comments import StripStatus, strip_code
from ift_lightning.data.comments.editing import Comment, remove_comments

# Tokens of one statement that is valid in the language, to be joined by blanks or comments.
STATEMENTS = {
    "java": ["int", "x", "=", "y", "/", "2", "+", '"// no /* */"', ";"],
    "javascript": ["x", "=", "y", "/", "2", "+", "'// no'", "+", "`/* no */`", ";"],
    "typescript": ["let", "x", ":", "number", "=", "y", "/", "2", ";"],
    "c": ["char", "*", "x", "=", "y", "/", "2", "+", '"/* no */"', ";"],
    "cpp": ["auto", "x", "=", "y", "/", "2", "+", "'/'", ";"],
    "csharp": ["var", "x", "=", "y", "/", "2", "+", '"// no"', ";"],
    "php": ["$x", "=", "$y", "/", "2", ".", "'# no // no'", ";"],
    "rust": ["static", "X", ":", "i32", "=", "Y", "/", "2", ";"],
    "css": ["a", "{", "color", ":", '"/* no */"', ";", "}"],
    "sql": ["SELECT", "a", ",", "'-- no /*'", "FROM", "t", ";"],
}
WORDS = st.text(st.sampled_from("ab 1'\"`#{}()<é中\\"), max_size=6)
GAPS = st.one_of(
    st.just(" "),
    st.just("\n"),
    st.builds(lambda text, end: f" /*{text} */{end}", WORDS, st.sampled_from([" ", "", "\n"])),
)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(sorted(STATEMENTS)), st.data())
def test_comments_between_tokens(language: str, data: st.DataObject) -> None:
    tokens = STATEMENTS[language] * data.draw(st.integers(1, 2))
    gaps = [data.draw(GAPS) for _ in tokens]
    code = "".join(token + gap for token, gap in zip(tokens, gaps, strict=True))
    stripped = strip_code(language, code)
    if stripped.status is StripStatus.CHANGED:
        # What is left are the tokens, in order, with blanks between.
        assert "".join(stripped.text.split()) == "".join("".join(tokens).split())
        assert strip_code(language, stripped.text).text == stripped.text
        assert stripped.text.endswith("\n") == code.endswith("\n")
    else:
        assert stripped.text == code
        # A backslash before the gap, or a dialect that disagrees, is all that may stop it.
        assert "/*" not in "".join(gaps) or "\\" in code or language in ("sql", "css"), stripped


LINES = st.lists(st.sampled_from(["x", "  y", "", "\tz w"]), max_size=5)


@settings(max_examples=200, deadline=None)
@given(LINES, LINES, st.booleans(), st.booleans())
def test_a_comment_line_leaves_no_trace(
    before: list[str], after: list[str], newline: bool, windows: bool
) -> None:
    lines = [*before, "# c", *after]
    text = "\n".join(lines) + "\n" * newline
    start = sum(len(line) + 1 for line in before)
    if windows:
        text, start = text.replace("\n", "\r\n"), start + len(before)
    stripped = remove_comments(text, [Comment(start, start + 3)])
    assert stripped.split() == text.replace("# c", "").split()
    assert not stripped or stripped.endswith("\n") == text.endswith("\n") or not after
    assert remove_comments(text, []) == text
