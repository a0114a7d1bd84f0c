"""Computes CodeBLEU with a fixed hash seed: JSON in on standard input, JSON out.

Started by path, so that nothing of the package is imported.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from typing import Any

_MAX_DEPTH = 1000  # levels of a syntax tree
_PHP_TAG = re.compile(r"<\?(?:php\b|=)", re.IGNORECASE)


def main() -> None:
    # The package warns for every item without data flow, which is told apart here anyway.
    logging.disable(logging.WARNING)
    request = json.load(sys.stdin)
    language = request["language"]
    texts = {
        name: [_prepared(text, language) for text in request[name]]
        for name in ("predictions", "references")
    }
    pairs = list(zip(texts["predictions"], texts["references"], strict=True))
    too_deep = [
        _depth(prediction, language) > max(_MAX_DEPTH, _depth(reference, language))
        for prediction, reference in pairs
    ]
    pairs = [
        ("" if deep else prediction, reference)
        for (prediction, reference), deep in zip(pairs, too_deep, strict=True)
    ]
    items = [_measure([prediction], [reference], language) for prediction, reference in pairs]
    corpus = _measure([prediction for prediction, _ in pairs], texts["references"], language)
    corpus["has_dataflow"] = any(item["has_dataflow"] for item in items)
    json.dump({"corpus": corpus, "items": items, "num_too_deep": sum(too_deep)}, sys.stdout)


def _prepared(text: str, language: str) -> str:
    """Return the code as its grammar wants it: valid Unicode, and PHP behind a tag."""
    # Half of a surrogate pair, which JSON can hold, has no UTF-8.
    text = text.encode("utf-8", "replace").decode("utf-8")
    # "<?" alone may be part of a string, such as the head of an XML file.
    if language == "php" and text.strip() and not _PHP_TAG.search(text):
        return f"<?php\n{text}"
    return text


def _depth(code: str, language: str) -> int:
    """Return the number of levels of a text's syntax tree, without recursion."""
    from codebleu.utils import get_tree_sitter_language
    from tree_sitter import Parser

    parser = Parser()
    parser.language = get_tree_sitter_language(language)
    cursor = parser.parse(code.encode("utf-8")).walk()
    level = deepest = 1
    while True:
        if cursor.goto_first_child():
            level += 1
            deepest = max(deepest, level)
            continue
        while not cursor.goto_next_sibling():
            if not cursor.goto_parent():
                return deepest
            level -= 1


def _measure(predictions: list[str], references: list[str], language: str) -> dict[str, Any]:
    from codebleu import calc_codebleu

    scores = calc_codebleu([[text] for text in references], predictions, language)
    return {
        "upstream": scores["codebleu"],
        "ngram": scores["ngram_match_score"],
        "weighted_ngram": scores["weighted_ngram_match_score"],
        "syntax": scores["syntax_match_score"],
        "dataflow": scores["dataflow_match_score"],
        "has_dataflow": any(_has_dataflow(text, language) for text in references),
    }


def _has_dataflow(code: str, language: str) -> bool:
    """Whether the package finds a data flow in a reference."""
    from codebleu.dataflow_match import (
        dfg_function,
        get_data_flow,
        normalize_dataflow,
    )
    from codebleu.parser import remove_comments_and_docstrings
    from codebleu.utils import get_tree_sitter_language
    from tree_sitter import Parser

    parser = Parser()
    parser.language = get_tree_sitter_language(language)
    try:
        code = remove_comments_and_docstrings(code.strip(), language)
    except Exception:  # as in the package, which then goes on with the code as it is
        code = code.strip()
    return bool(normalize_dataflow(get_data_flow(code, [parser, dfg_function[language]])))


if __name__ == "__main__":
    main()
