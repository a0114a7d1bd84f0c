"""Golden texts for each language, with the traps that break strippers made of regexes."""

from __future__ import annotations

import re

import pytest

from ift_lightning.data.comments import LANGUAGES, StripStatus, strip_code

# name -> (language, code, result)
GOLDEN = {
    "java": (
        "java",
        '/** Doc. */\npublic class A {\n    // own line\n\n    String u = "http://x"; // url\n'
        "    int f(/* n */ int a) { return a /* half */ / 2; }\n}\n",
        'public class A {\n\n    String u = "http://x";\n    int f(int a) { return a / 2; }\n}\n',
    ),
    "java method alone": ("java", "int f() { return 1; } // c\n", "int f() { return 1; }\n"),
    "javascript": (
        "javascript",
        "const re = /\\/\\/x/; // re\nconst t = `${a /* c */} // text`;\nx = a/* c */-b;\n"
        "y = a -/**/-b;\nlet c = '#ff0000'; /* red */\n",
        "const re = /\\/\\/x/;\nconst t = `${a} // text`;\nx = a -b;\n"
        "y = a - -b;\nlet c = '#ff0000';\n",
    ),
    "a comment that ends a statement": (
        "javascript",
        "function f() { return /* a\n b */ 1 }\n",
        "function f() { return\n1 }\n",
    ),
    "jsx": (
        "javascript",
        "const A = () => (\n  <div>\n    {/* note */}\n    <b>x</b> {/* y */}\n  </div>\n);\n",
        "const A = () => (\n  <div>\n    <b>x</b> {}\n  </div>\n);\n",
    ),
    "jsx texts that would run together": (
        "javascript",
        "const A = <div>\n  a\n  {/* y */}\n  b\n</div>;\n",
        "const A = <div>\n  a\n  {}\n  b\n</div>;\n",
    ),
    "typescript": (
        "typescript",
        "// c\ninterface A { x: string; /* y */ }\nlet a = <number>b; // cast\n",
        "interface A { x: string; }\nlet a = <number>b;\n",
    ),
    "typescript with jsx": (
        "typescript",
        "const A = (p: P) => <b>{p.x}</b>; // c\n",
        "const A = (p: P) => <b>{p.x}</b>;\n",
    ),
    "c": (
        "c",
        '#include <a.h> // c\n#define U "http://x" // u\n#define N 1 /* n */\n#ifdef U /* d */\n'
        "int x = 'a'; // \\\n still the comment\nint y = 4 /* d */ / 2;\n#endif // U\n",
        '#include <a.h>\n#define U "http://x"\n#define N 1\n#ifdef U\n'
        "int x = 'a';\nint y = 4 / 2;\n#endif\n",
    ),
    "c with blanks after an include": (
        "c",
        "#include <stdio.h> \n  \n// c\nint x;\n",
        "#include <stdio.h> \n  \nint x;\n",
    ),
    "c, a continued line before a comment": (
        "c",
        "#define A 1 \\\n// c\nint x;\n",
        "#define A 1 \\\n\nint x;\n",
    ),
    "c macro over several lines": (
        "c",
        "#define M(a) \\\n  /* s */ \\\n  (a)\n",
        "#define M(a) \\\n  \\\n  (a)\n",
    ),
    "cpp": (
        "cpp",
        'auto s = R"(// no /* no */)"; // c\nstd::vector<int> v; /* v */\n',
        'auto s = R"(// no /* no */)";\nstd::vector<int> v;\n',
    ),
    "csharp": (
        "csharp",
        '/// <summary>d</summary>\nclass A { string p = @"c:\\\\x // no"; /* c */ }\n'
        "#region a // b\n#endregion\n",
        'class A { string p = @"c:\\\\x // no"; }\n#region a // b\n#endregion\n',
    ),
    "go": (
        "go",
        "// Package x does.\npackage x\n\n// f is.\nfunc f() int {\n\treturn 1 /* a\n\t*/\n}\n\n"
        "var s = `// text`\n",
        "package x\n\nfunc f() int {\n\treturn 1\n}\n\nvar s = `// text`\n",
    ),
    "php": (
        "php",
        "<?php\n# c\n#[Attr]\nfunction f() { return 'http://x'; } // c ?>\n<b><!-- shown -->"
        "<?php /* x */ echo 1; // y ?></b>\n",
        "<?php\n#[Attr]\nfunction f() { return 'http://x'; } ?>\n<b><!-- shown -->"
        "<?php echo 1; ?></b>\n",
    ),
    "php without its tag": ("php", "echo '#'; # c\n$a = 1; // d\n", "echo '#';\n$a = 1;\n"),
    "ruby": (
        "ruby",
        'x = %w(# b) # c\ny = "#{z} # c"\n=begin\nfoo\n=end\nfoo\n  # c\n  .bar\n__END__\n# data\n',
        'x = %w(# b)\ny = "#{z} # c"\nfoo\n  .bar\n__END__\n# data\n',
    ),
    "rust": (
        "rust",
        "//! Crate.\n/// Doc.\n#[derive(Debug)]\nstruct A; // x\n/* a /* nested */ c */\n"
        "fn f<'a>(x: &'a str) -> i32 { 1 /* c */ + 2 }\n",
        "#[derive(Debug)]\nstruct A;\nfn f<'a>(x: &'a str) -> i32 { 1 + 2 }\n",
    ),
    "sql": (
        "sql",
        "-- c\nSELECT x, -- y\n 'it''s -- no' FROM t; /* z */\n",
        "SELECT x,\n 'it''s -- no' FROM t;\n",
    ),
    "css": (
        "css",
        "/* a */\na { color: #ff0000; /* red */ }\n.a/**/.b { x: 1 }\n.c /* d */ .e { y: 2 }\n",
        "a { color: #ff0000; }\n.a.b { x: 1 }\n.c .e { y: 2 }\n",
    ),
    "html": (
        "html",
        "<!-- a -->\n<p>x <!-- c --> y</p>\n<script>\n// s\nlet u = 'http://x';\n</script>\n"
        "<style>/* c */ a { b: c }</style>\n<textarea><!-- t --></textarea>"
        "<pre> a <!-- p --> b</pre>\n",
        "<p>x y</p>\n<script>\nlet u = 'http://x';\n</script>\n"
        "<style>a { b: c }</style>\n<textarea><!-- t --></textarea><pre> a  b</pre>\n",
    ),
    "shell": (
        "shell",
        "# c\nfoo \\\n# d\nbar\necho ${x#y} $# '#' a#b # c\ncat <<E\n# no\nE\n",
        "foo \\\n\nbar\necho ${x#y} $# '#' a#b\ncat <<E\n# no\nE\n",
    ),
    "windows": ("c", "int x; // c\r\n// d\r\nint y;\r\n", "int x;\r\nint y;\r\n"),
    "chinese": ("java", 'String s = "总"; // 总数\n', 'String s = "总";\n'),
    "no newline at the end": ("go", "package x\n\n// c", "package x"),
    "blank lines within": ("java", "int a;\n\n// c\n\nint b;\n", "int a;\n\n\nint b;\n"),
    "byte order mark": ("c", "\ufeff// c\nint x;\n", "\ufeffint x;\n"),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_golden(name: str) -> None:
    language, code, expected = GOLDEN[name]
    stripped = strip_code(language, code)
    assert (stripped.text, stripped.status) == (expected, StripStatus.CHANGED), stripped.reason
    assert strip_code(language, expected).text == expected


def test_every_language_has_a_golden_text() -> None:
    tested = {language for language, _, _ in GOLDEN.values()} | {"python"}
    assert tested == set(LANGUAGES) - {"tsx", "mysql", "postgresql"}


def test_dialects_of_sql_and_tsx() -> None:
    assert strip_code("mysql", "SELECT 1; -- c\n").text == "SELECT 1;\n"
    assert strip_code("postgresql", "SELECT 1; -- c\n").text == "SELECT 1;\n"
    assert strip_code("tsx", "let a: B = <b/>; // c\n").text == "let a: B = <b/>;\n"


# What a tool reads stays and is counted; the ordinary comment beside it goes.
KEPT = [
    ("shell", "#!/bin/bash\nls\n", "shebang"),
    ("shell", "# shellcheck disable=SC2086\nls\n", "lint"),
    ("shell", "#SBATCH --nodes=2\nls\n", "scheduler"),
    ("ruby", "#!/usr/bin/env ruby\nx = 1\n", "shebang"),
    ("ruby", "# frozen_string_literal: true\nx = 1\n", "magic"),
    ("ruby", "# encoding: utf-8\nx = 1\n", "coding"),
    ("ruby", "x = 1 # rubocop:disable Lint\n", "lint"),
    ("go", "//go:build linux\n\npackage x\n", "go"),
    ("go", "// +build linux\n\npackage x\n", "build"),
    ("go", 'package x\n\nimport _ "embed"\n\n//go:embed a.txt\nvar s string\n', "go"),
    ("go", 'package x\n\n// #include <stdio.h>\nimport "C"\n', "cgo"),
    ("go", 'package x\n\n/*\nint f();\n*/\nimport "C"\n', "cgo"),
    ("go", "package x\n\n//export F\nfunc F() {}\n", "cgo"),
    ("go", "package x\n\nfunc ExampleF() {\n\tf()\n\t// Output:\n\t// 1\n}\n", "output"),
    ("javascript", "// eslint-disable-next-line\nf();\n", "eslint"),
    ("javascript", "/* global jQuery */\nf();\n", "eslint"),
    ("javascript", "x = /*#__PURE__*/ f();\n", "bundler"),
    ("javascript", "import(/* webpackChunkName: 'a' */ './a');\n", "bundler"),
    ("javascript", "/* istanbul ignore next */\nf();\n", "coverage"),
    ("typescript", "// @ts-ignore\nf();\n", "ts_check"),
    ("typescript", '/// <reference path="a.d.ts" />\nf();\n', "reference"),
    ("java", "int x; // NOSONAR\n", "lint"),
    ("c", "int x; // NOLINT(foo)\n", "lint"),
    (
        "c",
        "int f(int a) { switch (a) { case 1: a++; /* fall through */ case 2: ; } }\n",
        "fallthrough",
    ),
    ("cpp", "// clang-format off\nint x;\n", "formatter"),
    ("csharp", "// ReSharper disable All\nclass A {}\n", "lint"),
    ("php", '<?php\n/** @Route("/a") */\nfunction f() {}\n', "annotation"),
    ("sql", "SELECT /*+ INDEX(a) */ x FROM t;\n", "hint"),
    ("css", "/* stylelint-disable */\na { b: c }\n", "lint"),
    ("html", "<!--[if IE]><b>x</b><![endif]-->\n<p>a</p>\n", "conditional"),
    ("html", '<!--#include file="a.html" -->\n<p>a</p>\n', "tool"),
]


@pytest.mark.parametrize(("language", "code", "kind"), KEPT)
def test_what_tools_read_stays(language: str, code: str, kind: str) -> None:
    stripped = strip_code(language, code)
    assert (stripped.text, stripped.status) == (code, StripStatus.UNCHANGED), stripped.reason
    assert set(stripped.counts) == {f"kept:{kind}"}


ORDINARY = [
    ("go", 'package x\n\n// not C\n\nimport "C"\n', 'package x\n\n\nimport "C"\n'),
    (
        "go",
        'package x\n\n// not C\n\n// int f();\nimport "C"\n',
        'package x\n\n\n// int f();\nimport "C"\n',
    ),
    ("go", "package x\n\n// go:build no\nvar a int\n", "package x\n\nvar a int\n"),
    ("go", "package x\n\nfunc f() {\n\t// Output:\n}\n", "package x\n\nfunc f() {\n}\n"),
    ("javascript", "/*! licence */\nf();\n", "f();\n"),
    ("javascript", "// eslinted\nf();\n", "f();\n"),
    ("shell", "ls\n#!/bin/sh\nls\n", "ls\nls\n"),
    ("c", "int x; // falls through the cracks\n", "int x;\n"),
    ("html", "<!-- if IE -->\n<p>a</p>\n", "<p>a</p>\n"),
]


@pytest.mark.parametrize(("language", "code", "expected"), ORDINARY)
def test_what_only_looks_like_a_directive_goes(language: str, code: str, expected: str) -> None:
    assert strip_code(language, code).text == expected


REFUSED = {
    "broken": ("java", "class { // c\n", "not valid"),
    "only comments": ("c", "// a\n/* b */\n", "no statement"),
    "prose as shell": ("shell", "Use the ls command # to list.\n", "prose"),
    "prose as ruby": ("ruby", "Use the map method # to map.\n", "prose"),
    "prose as sql": ("sql", "Use the DELETE statement -- it removes rows.\n", "prose"),
    "prose as html": ("html", "Write <!-- x --> for a comment.\n", "begin with a tag"),
    "dialects disagree": ("sql", "SELECT 'it\\'s' FROM t -- x'\n;", "disagree|valid"),
    "minus minus": ("sql", "SELECT 5--3\nFROM t;\n", "disagree|valid"),
    "java escape": ("java", "int x; // \\u000a int y;\n", "escape"),
    "trigraph": ("c", "int x; // c??/\nint y;\n", "trigraph"),
    "carriage return": ("c", "int x; // c\rint y;\n", "carriage return"),
    "zero byte": ("c", "int x;\0 // c\n", "control"),
    "surrogate": ("c", "int x; // \ud800\n", "surrogate"),
    "scss": ("css", "a { b: c } // d /* e */\n", "no comment in CSS|valid"),
    "a script that fails": ("html", "<p>a</p><script>if ( // c\n</script>\n", "its javascript"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_certain_is_left(name: str) -> None:
    language, code, reason = REFUSED[name]
    stripped = strip_code(language, code)
    assert (stripped.text, stripped.status) == (code, StripStatus.NOT_PARSABLE), stripped
    assert re.search(reason, stripped.reason), stripped.reason


def test_text_of_jsx_is_no_comment() -> None:
    code = "const A = <div>// text\n</div>;\n"
    assert strip_code("javascript", code).text == code


def test_a_line_separator_ends_a_comment() -> None:
    code = "x = 1 // c\u2028y = 2\n"
    assert strip_code("javascript", code).text in (code, "x = 1\u2028y = 2\n")


def test_unknown_language() -> None:
    with pytest.raises(ValueError, match="'cobol'"):
        strip_code("cobol", "x")
