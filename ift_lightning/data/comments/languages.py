"""Names of programming languages: what rows and fence tags write, and what is meant."""

from __future__ import annotations

_ALIASES = {
    "python": "py python3 python2 py3 py2 python-3 cython ipython ipynb jupyter sage pycon3",
    "java": "jdk",
    "javascript": "js jsx node nodejs node.js ecmascript mjs cjs es6 reactjs react",
    "typescript": "ts mts cts",
    "tsx": "typescriptreact",
    "c": "h c89 c99 c11 c17 ansi-c",
    "cpp": "c++ cc cxx hpp hxx hh cplusplus c++11 c++14 c++17 c++20",
    "csharp": "c# cs c-sharp c_sharp dotnet .net",
    "go": "golang",
    "php": "php5 php7 php8",
    "ruby": "rb rails",
    "rust": "rs",
    "sql": "sqlite sqlite3 ansi-sql",
    "mysql": "mariadb",
    "postgresql": "postgres pgsql psql plpgsql",
    "html": "htm html5 xhtml",
    "css": "css3",
    "shell": "bash sh zsh ksh shellscript shell-script shell_script unix-shell",
}
_CANONICAL = {
    alias: name for name, aliases in _ALIASES.items() for alias in (name, *aliases.split())
}

LANGUAGES = tuple(_ALIASES)
"""Languages whose comments can be removed."""


def canonical_language(name: str) -> str | None:
    """Return the language meant by a row's field or a fence's tag; None where it is not known.

    Args:
        name: For example "Python3", "c++", "js" or "golang", in any case.
    """
    return _CANONICAL.get(name.strip().lower())
