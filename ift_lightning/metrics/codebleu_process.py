"""Computes CodeBLEU with a fixed hash seed: JSON in on standard input, JSON out.

Started by path, so that nothing of the package is imported.
"""

from __future__ import annotations

import json
import logging
import sys
from typing import Any


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
    items = [_measure([prediction], [reference], language) for prediction, reference in pairs]
    corpus = _measure(texts["predictions"], texts["references"], language)
    corpus["has_dataflow"] = any(item["has_dataflow"] for item in items)
    json.dump({"corpus": corpus, "items": items}, sys.stdout)


def _prepared(text: str, language: str) -> str:
    """Return the code as its grammar wants it: PHP begins with a tag."""
    if language == "php" and "<?" not in text and text.strip():
        return f"<?php\n{text}"
    return text


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
