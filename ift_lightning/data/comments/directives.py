"""Comments that tools read: they are part of the program, so they stay and are counted."""

from __future__ import annotations

import re

_BEGIN = r"^(?:/\*+!?|//+|#+|--|<!--)\s*"


def _rules(**patterns: str) -> list[tuple[str, re.Pattern[str]]]:
    return [
        (name, re.compile(_BEGIN + pattern, re.IGNORECASE)) for name, pattern in patterns.items()
    ]


def _exact(**patterns: str) -> list[tuple[str, re.Pattern[str]]]:
    return [(name, re.compile(pattern)) for name, pattern in patterns.items()]


_JAVASCRIPT = [
    *_rules(
        eslint=r"(?:eslint(?:-disable|-enable|-env)?\b|globals?\s+\w|exported\s+\w|(?:js|ts)lint\b)",
        ts_check=r"@ts-(?:ignore|expect-error|nocheck|check)\b",
        flow=r"(?:@flow\b|@noflow\b|\$Flow\w+)",
        formatter=r"(?:prettier-ignore|biome-ignore|dprint-ignore|deno-(?:lint|fmt)-ignore)",
        coverage=r"(?:istanbul|c8|v8|node:coverage)\s+(?:ignore|disable|enable)",
        bundler=r"(?:webpack\w+\s*:|@vite-ignore|[#@]__(?:PURE|NO_SIDE_EFFECTS|INLINE|NOINLINE)__)",
        jsx=r"@jsx\w*\s+\w",
        source_map=r"[#@]\s*source(?:MappingURL|URL)=",
        environment=r"@(?:jest|vitest)-environment\b",
    ),
    *_exact(reference=r"^///\s*<(?:reference|amd-)"),
]
_C = [
    *_rules(
        lint=r"(?:NOLINT|LINTED\b|cppcheck-suppress|coverity\[|codechecker_)",
        formatter=r"clang-format\s+(?:on|off)",
        include=r"IWYU\s+pragma:",
        coverage=r"(?:LCOV|GCOVR?)_EXCL_",
        fallthrough=r"(?:else,?\s+)?fall(?:s|ing)?[\s-]*thr(?:ough|u)\b\W*$",
    ),
]
_SQL = [
    *_exact(hint=r"^(?:/\*\+|--\+)", version=r"^/\*M?!"),
    *_rules(
        lint=r"(?:noqa\b|sqlfluff:|sqlfmt:)",
        migration=r"(?:\+goose\b|\+migrate\b|liquibase\b|changeset\s+\S+:\S+)",
        query_name=r"name:\s*\w+",
    ),
]
_RULES: dict[str, list[tuple[str, re.Pattern[str]]]] = {
    "python": [
        ("type", re.compile(r"#\s*type:", re.IGNORECASE)),
        ("noqa", re.compile(r"#\s*noqa\b", re.IGNORECASE)),
        ("pragma", re.compile(r"#\s*pragma:", re.IGNORECASE)),
        ("nosec", re.compile(r"#\s*nosec\b", re.IGNORECASE)),
        (
            "lint",
            re.compile(
                r"#\s*(?:fmt|pylint|mypy|ruff|isort|pyright|flake8|yapf|pytype|pyre|cython|"
                r"distutils|doctest):",
                re.IGNORECASE,
            ),
        ),
        ("cell", re.compile(r"#\s?%%")),  # a notebook kept as a script
    ],
    "java": [
        *_rules(
            lint=r"(?:NOSONAR\b|NOPMD\b|CHECKSTYLE[:.]|noinspection\s+\w)",
            formatter=r"@formatter:(?:on|off)",
            fallthrough=r"(?:\$FALL-THROUGH\$|fall(?:s|ing)?[\s-]*through\b\W*$)",
        ),
        *_exact(nls=r"^//\s*\$NON-NLS-\d"),
    ],
    "javascript": _JAVASCRIPT,
    "typescript": _JAVASCRIPT,
    "tsx": _JAVASCRIPT,
    "c": _C,
    "cpp": _C,
    "csharp": _rules(lint=r"(?:ReSharper\s+\w+|NOSONAR\b|<auto-?generated)"),
    "go": _exact(
        # https://pkg.go.dev/cmd/compile#hdr-Compiler_Directives and cmd/go, cmd/cgo
        go=r"^//go:[a-z]",
        build=r"^//\s*\+build\b",
        line=r"^(?://|/\*)line .*:\d+",
        cgo=r"^//export \w+",
        lint=r"^//\s*nolint\b|^//lint:|^//\s*#nosec\b",
        generated=r"^// Code generated .* DO NOT EDIT\.$",
    ),
    "php": [
        *_rules(
            lint=r"(?:phpcs:|@?codingStandards|@phpstan-|@psalm-|@codeCoverageIgnore)",
        ),
        # Frameworks read these at run time, as they do attributes.
        ("annotation", re.compile(r"^/\*\*.*@(?:[A-Z]\w*[\\(]|dataProvider|test\b|group )", re.S)),
    ],
    "ruby": _rules(
        magic=r"(?:-\*-\s*)?(?:frozen[_-]string[_-]literal|warn[_-]indent|"
        r"shareable[_-]constant[_-]value|typed)\s*:",
        coding=r".*?coding[:=][ \t]*[-\w.]+",
        lint=r"(?:rubocop|standard|steep|sorbet|reek|brakeman):",
        coverage=r":nocov:",
    ),
    "rust": [],  # what tools read are attributes, which are no comments
    "sql": _SQL,
    "mysql": _SQL,
    "postgresql": _SQL,
    "html": [
        *_exact(conditional=r"^<!--\s*\[if\b|^<!--\s*<!\[|^<!\[|^<!--\s*\[endif"),
        *_rules(tool=r"(?:prettier-ignore|htmlhint\b|htmllint\b|#(?:include|echo|exec|set|if)\b)"),
    ],
    "css": _rules(
        lint=r"(?:stylelint-|csslint\b|autoprefixer:|prettier-ignore)",
        source_map=r"#\s*source(?:MappingURL|URL)=",
    ),
    "shell": [
        *_rules(lint=r"shellcheck\s+\w+="),
        # Schedulers and cloud-init read these: https://slurm.schedmd.com/sbatch.html
        *_exact(scheduler=r"^#(?:SBATCH|PBS|BSUB|FLUX:|COBALT|\$) ?-", cloud=r"^#cloud-config\b"),
    ],
}
# These count on the first lines only: https://peps.python.org/pep-0263/
_CODING = re.compile(r"#.*?coding[:=][ \t]*[-\w.]+")
_HASH_COMMENTS = frozenset({"python", "ruby", "shell", "php"})


def directive_of(language: str, comment: str, line: int, *, is_alone: bool) -> str:
    """Return what kind of directive a comment is, or "" where it is only for people.

    Args:
        language: A name of :data:`LANGUAGES`.
        comment: The whole comment, with its delimiters.
        line: Its line, from 0, blank lines at the beginning not counted.
        is_alone: Whether nothing but blanks stands before it on its line.
    """
    if language in _HASH_COMMENTS:
        if line == 0 and is_alone and comment.startswith("#!"):
            return "shebang"
        if language == "python" and line <= 1 and is_alone and _CODING.match(comment):
            return "coding"
        if language == "ruby" and not (is_alone and line <= 2):
            rules = [rule for rule in _RULES["ruby"] if rule[0] != "coding"]
            return _first_match(rules, comment)
    return _first_match(_RULES[language], comment)


def _first_match(rules: list[tuple[str, re.Pattern[str]]], comment: str) -> str:
    return next((name for name, pattern in rules if pattern.match(comment)), "")
