"""Comparisons in plain words."""

from __future__ import annotations

from ift_lightning.reporting.comparisons import PairComparison
from ift_lightning.reporting.scores import ScoreInfo
from ift_lightning.reporting.statistics.power import Power


def number(value: float, digits: int) -> str:
    """Return a number with a fixed number of decimals, a minus sign, and never "-0.0"."""
    text = f"{value:.{digits}f}"
    if float(text) == 0:
        text = text.lstrip("-")
    return text.replace("-", "\N{MINUS SIGN}")


def p_text(p_value: float) -> str:
    """Return "p = 0.012" or "p < 0.001"."""
    return "p < 0.001" if p_value < 0.001 else f"p = {p_value:.3f}"


def sentence(pair: PairComparison, info: ScoreInfo) -> str:
    """Say which of two arms is better, by how much and how surely, or that nothing was found.

    Args:
        pair: The comparison.
        info: Its score.
    """
    if pair.p_value is None or pair.low is None or pair.high is None:
        return _untested(pair, info)
    if pair.is_detected:
        return _detected(pair, info)
    return _undetected(pair, info)


def _detected(pair: PairComparison, info: ScoreInfo) -> str:
    assert pair.low is not None and pair.high is not None and pair.p_holm is not None
    more, less = (pair.first, pair.second) if pair.difference > 0 else (pair.second, pair.first)
    size = number(abs(pair.difference), info.digits)
    low, high = (number(end, info.digits) for end in _toward(pair))
    tail = f"(95 % interval {low} to {high}; {_tested(pair)}, {pair.method})"
    if pair.covers == "seeds":
        tail += " on these test rows"
    if info.name.startswith("pass@"):
        return f"{more} passes {size} points more than {less} {tail}."
    if info.higher_is_better:
        return f"{more} scores {size} {info.points} higher than {less} on {info.label} {tail}."
    return f"The {info.label} of {less} is {size} {info.points} lower than that of {more} {tail}."


def _tested(pair: PairComparison) -> str:
    """Return the p-value, and whether it is adjusted for several pairs."""
    assert pair.p_holm is not None
    return p_text(pair.p_holm) + " after Holm" * (pair.num_compared > 1)


def _toward(pair: PairComparison) -> tuple[float, float]:
    """Return the interval of "more minus less"."""
    assert pair.low is not None and pair.high is not None
    return (pair.low, pair.high) if pair.difference > 0 else (-pair.high, -pair.low)


def _undetected(pair: PairComparison, info: ScoreInfo) -> str:
    assert pair.low is not None and pair.high is not None and pair.p_holm is not None
    digits = info.digits
    head = (
        f"No detectable difference between {pair.first} and {pair.second}: "
        f"{number(pair.difference, digits)} {info.points} (95 % interval "
        f"{number(pair.low, digits)} to {number(pair.high, digits)}; {_tested(pair)})"
    )
    if pair.power is None:
        if pair.num_problems:
            return f"{head}: the outcome is the same on all {pair.num_problems} problems."
        return f"{head}."
    return f"{head}. {_needed(pair.power, pair, info)}"


def _needed(power: Power, pair: PairComparison, info: ScoreInfo) -> str:
    if power.detectable >= info.largest_difference:
        return "The seeds differ so much that no difference of any size would be found for certain."
    size = number(power.smaller, info.digits)
    shown = number(power.detectable, info.digits)
    here = f"these {pair.num_problems} problems show effects from about {shown} {info.points}"
    effect = f"An effect under {size} {info.points} would need about"
    if power.num_seeds_needed is None:
        assert power.num_problems_needed is not None
        return f"{effect} {_round(power.num_problems_needed):,} problems; {here}."
    # A base model has no seeds.
    seeds = f"{power.num_seeds_needed} seeds" + " an arm" * (min(pair.num_seeds) > 1)
    if power.num_problems_needed is not None:
        return f"{effect} {_round(power.num_problems_needed):,} problems and {seeds}; {here}."
    return f"{effect} {seeds}, since the seeds differ too much for more problems to help; {here}."


def _round(count: int) -> int:
    """Round to two significant digits; the estimate is no better than that."""
    magnitude = 10 ** max(len(str(count)) - 2, 0)
    return round(count / magnitude) * magnitude


def _untested(pair: PairComparison, info: ScoreInfo) -> str:
    size = number(pair.difference, info.digits)
    return (
        f"{pair.first} minus {pair.second} is {size} {info.points} on {info.label}; whether that "
        f"means anything cannot be said ({pair.method.removeprefix('none: ')})."
    )
