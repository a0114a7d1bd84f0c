"""Everything that a report says, as numbers: from runs to tables, costs, curves and changes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from ift_lightning.errors import UserError, suggest
from ift_lightning.reporting.arms import Arm
from ift_lightning.reporting.before_after import (
    BeforeAfter,
    adjust_together,
    compare_before_after,
)
from ift_lightning.reporting.comparisons import ScoreTable, compare_by_problem, compare_by_seed
from ift_lightning.reporting.curves import CURVES, read_curves
from ift_lightning.reporting.fairness import Fairness, check_fairness
from ift_lightning.reporting.figures.scores import Cost, Curve, LevelPoint
from ift_lightning.reporting.judgement import JudgementResult, is_judgement, judge
from ift_lightning.reporting.predictions import Predictions
from ift_lightning.reporting.runs import LeftOut, Run
from ift_lightning.reporting.scores import SCORES, ScoreInfo, score_info, score_matrix
from ift_lightning.types import REASONING_LEVELS

_NOT_COMPARED = ("perplexity",)  # it says what the loss says
_OVER_TOKENS = ("loss", "token_accuracy")
"""Scores that are means over the target tokens of the rows."""


@dataclass(frozen=True)
class Analysis:
    """What is known about a set of arms.

    Args:
        title: Of the report.
        arms: In the order of the runs.
        left_out: Runs that are not in any number.
        fairness: What differs besides the factor.
        tables: Comparisons, the main score first.
        lacking: Score to the arms that have none of it.
        costs: Arm to what it cost.
        curves: Name to arm to a curve for each seed.
        before_after: Arms against their base model.
        judgements: Models that judged, the base model first.
        levels: Points of the reasoning-level figure; empty where levels are not compared.
        compares_templates: Whether the template is what differs.
    """

    title: str
    arms: tuple[Arm, ...]
    left_out: tuple[LeftOut, ...]
    fairness: Fairness
    tables: tuple[ScoreTable, ...]
    lacking: dict[str, list[str]] = field(default_factory=dict)
    costs: dict[str, Cost] = field(default_factory=dict)
    curves: dict[str, dict[str, list[Curve]]] = field(default_factory=dict)
    before_after: tuple[BeforeAfter, ...] = ()
    judgements: tuple[JudgementResult, ...] = ()
    levels: tuple[LevelPoint, ...] = ()
    compares_templates: bool = False

    @property
    def main(self) -> ScoreTable | None:
        """The table of the main score."""
        return self.tables[0] if self.tables else None

    def base_score(self, info: ScoreInfo) -> float | None:
        """Return the base model's score, where all arms were held against the same one."""
        values = {
            round(table.arm("before").mean, 9)
            for item in self.before_after
            for table in item.tables
            if table.info.name == info.name
        }
        if len(values) == 1 and len(self.before_after) == len(self.arms):
            return values.pop()
        return _recorded_base(self.arms, info)


def _recorded_base(arms: Sequence[Arm], info: ScoreInfo) -> float | None:
    runs = [run for arm in arms for run in arm.runs]
    if info.item_name is not None or any(
        f"before/test/{info.name}" not in run.metrics for run in runs
    ):
        return None  # of answers, the mean over problems is shown, not the corpus value
    values = {_of_run(run.metrics, "before/test/", info.name) for run in runs}
    return info.factor * values.pop() if len(values) == 1 else None


def analyse(
    title: str,
    arms: Sequence[Arm],
    left_out: Sequence[LeftOut],
    *,
    metric: str | None = None,
    baseline: str | None = None,
    num_resamples: int = 10_000,
    num_samples: int = 6,
) -> Analysis:
    """Compare arms.

    Args:
        title: Of the report.
        arms: Runs, grouped.
        left_out: Runs that are not among them.
        metric: Main score ("pass@1"); None for the first of a fixed order that all arms have.
        baseline: Arm that all others are compared with; None for all pairs.
        num_resamples: Of the bootstrap.
        num_samples: Answers of an arm that are shown side by side; fewer where there are many arms.

    Raises:
        UserError: There is no arm, or no such score, or no such baseline.
    """
    if not arms:
        reasons = "".join(f"\n  {item.folder}: {item.reason}" for item in left_out[:8])
        raise UserError(f"none of the runs is finished, so there is nothing to report:{reasons}")
    names = [arm.name for arm in arms]
    if baseline is not None and baseline not in names:
        raise UserError(f"baseline={baseline} is no arm. {suggest(baseline, names)}")
    lacking: dict[str, list[str]] = {}
    fairness = check_fairness(arms)
    tables = _tables(arms, lacking, fairness, baseline=baseline, num_resamples=num_resamples)
    # Many arms share the space that answers side by side take.
    shown = num_samples if len(arms) <= 3 else max(1, 2 * num_samples // len(arms))
    num_held = sum(bool(_with_before(arm)) for arm in arms)
    before_after = adjust_together(
        [
            item
            for arm in arms
            if (item := _before_after(arm, num_resamples, shown, num_held)) is not None
        ]
    )
    ordered = _main_first(tables, metric)
    return Analysis(
        title=title,
        arms=tuple(arms),
        left_out=tuple(left_out),
        fairness=fairness,
        tables=tuple(ordered),
        lacking=lacking,
        costs={arm.name: _cost(arm) for arm in arms},
        curves=_curves(arms),
        before_after=before_after,
        judgements=tuple(_judgements(arms)),
        levels=tuple(_levels(arms, ordered)),
        compares_templates=any("template" in arm.factors for arm in arms),
    )


def _main_first(tables: list[ScoreTable], metric: str | None) -> list[ScoreTable]:
    if metric is None:
        return tables
    wanted = metric.rpartition("/")[2]
    chosen = [table for table in tables if table.info.name == wanted]
    if not chosen:
        names = [table.info.name for table in tables]
        raise UserError(f"metric={metric}: the runs have no such score. {suggest(wanted, names)}")
    return chosen + [table for table in tables if table not in chosen]


def _tables(
    arms: Sequence[Arm],
    lacking: dict[str, list[str]],
    fairness: Fairness,
    *,
    baseline: str | None,
    num_resamples: int,
) -> list[ScoreTable]:
    tables = []
    for info in _infos(arms):
        table = _table_of_answers(info, arms, lacking, baseline, num_resamples)
        table = table or _table_of_runs(info, arms, lacking, fairness, baseline)
        if table is not None:
            tables.append(table)
    return tables


def _infos(arms: Sequence[Arm]) -> list[ScoreInfo]:
    """Return the known scores, and pass@k for every other k that was recorded."""
    recorded = dict.fromkeys(
        name.removeprefix("test/")
        for arm in arms for run in arm.runs for name in run.metrics
        if name.startswith("test/pass@")
    )  # fmt: skip
    known = [info.name for info in SCORES]
    more = [score_info(name) for name in recorded if name not in known]
    return [*SCORES[:2], *more, *(i for i in SCORES[2:] if i.name not in _NOT_COMPARED)]


def _table_of_answers(
    info: ScoreInfo,
    arms: Sequence[Arm],
    lacking: dict[str, list[str]],
    baseline: str | None,
    num_resamples: int,
) -> ScoreTable | None:
    if info.item_name is None:
        return None
    having: dict[str, list[Predictions]] = {}
    for arm in arms:
        files = [run.predictions for run in arm.runs]
        answers = [p for p in files if p is not None and info.item_name in p.score_names()]
        if len(answers) == len(arm.runs) and _has_enough_samples(info, answers):
            having[arm.name] = answers
    if not having or (baseline is not None and baseline not in having):
        return None
    matrix = score_matrix(having, info)
    if matrix is None:
        return None
    missing = [arm.name for arm in arms if arm.name not in having]
    if missing:
        lacking[info.label] = missing
    seeds = {arm.name: arm.seeds for arm in arms}
    return compare_by_problem(matrix, seeds, num_resamples=num_resamples, baseline=baseline)


def _has_enough_samples(info: ScoreInfo, answers: Sequence[Predictions]) -> bool:
    k = int(info.name[5:]) if info.name.startswith("pass@") else 1
    return all(predictions.num_samples >= k for predictions in answers)


def _table_of_runs(
    info: ScoreInfo,
    arms: Sequence[Arm],
    lacking: dict[str, list[str]],
    fairness: Fairness,
    baseline: str | None,
) -> ScoreTable | None:
    others = info.name in _OVER_TOKENS and fairness.differs("target tokens of the test rows")
    why_not = "means over other tokens do not compare" if others else ""
    for prefix, label in (("test/", info.label), ("val/", info.label.replace("test", "eval"))):
        key = f"{prefix}{info.name}"
        having = {
            arm.name: [_of_run(run.metrics, prefix, info.name) for run in arm.runs]
            for arm in arms
            if all(key in run.metrics for run in arm.runs)
        }
        if having and (baseline is None or baseline in having):
            missing = [arm.name for arm in arms if arm.name not in having]
            if missing:
                lacking[label] = missing
            shown = ScoreInfo(
                info.name, label, info.unit, info.higher_is_better, info.factor, None, info.digits
            )
            return compare_by_seed(shown, having, baseline=baseline, why_not=why_not)
    return None


def _of_run(metrics: Mapping[str, float], prefix: str, name: str) -> float:
    """Return a recorded score; of the loss, the one that weighs all target tokens alike.

    A run records its own loss, in which an arm may weigh tokens as no other does.
    """
    perplexity = metrics.get(f"{prefix}perplexity")
    if name == "loss" and perplexity is not None and 0 < perplexity < math.inf:
        return math.log(perplexity)
    return metrics[f"{prefix}{name}"]


def _with_before(arm: Arm) -> list[tuple[Run, Predictions, Predictions]]:
    return [
        (run, run.before, run.predictions)
        for run in arm.runs
        if run.before is not None and run.predictions is not None
    ]


def _before_after(
    arm: Arm, num_resamples: int, num_samples: int, num_compared: int
) -> BeforeAfter | None:
    pairs = _with_before(arm)
    if not pairs:
        return None
    metrics = [
        (
            _under(run.metrics, "before/test/"),
            _under(run.metrics, "test/"),
        )
        for run, _, _ in pairs
    ]
    return compare_before_after(
        arm.name,
        [before for _, before, _ in pairs],
        [after for _, _, after in pairs],
        [run.seed for run, _, _ in pairs],
        metrics,
        num_resamples=num_resamples,
        num_samples=num_samples,
        num_compared=num_compared,
    )


def _under(metrics: dict[str, float], prefix: str) -> dict[str, float]:
    return {
        name.removeprefix(prefix): value
        for name, value in metrics.items()
        if name.startswith(prefix)
    }


def _cost(arm: Arm) -> Cost:
    memory = [
        (run.record["performance"].get("peak_memory_bytes") or {}).get("train") for run in arm.runs
    ]
    return Cost(
        _median(arm.values("model", "num_trainable_parameters")),
        _median(arm.values("performance", "train_seconds")),
        _median(memory),
    )


def _median(values: Sequence[float | None]) -> float | None:
    """Return the median: one run that shared its machine moves it less than the mean."""
    numbers = [value for value in values if value is not None]
    return float(median(numbers)) if numbers and len(numbers) == len(values) else None


def _mean(values: Sequence[float | None]) -> float | None:
    numbers = [value for value in values if value is not None]
    return sum(numbers) / len(numbers) if numbers and len(numbers) == len(values) else None


def _curves(arms: Sequence[Arm]) -> dict[str, dict[str, list[Curve]]]:
    read = {arm.name: [read_curves(run.folder) for run in arm.runs] for arm in arms}
    found: dict[str, dict[str, list[Curve]]] = {}
    for name in CURVES:
        for arm, runs in read.items():
            curves: list[Curve] = [run[name] for run in runs if len(run.get(name, ())) > 1]
            if curves:
                found.setdefault(name, {})[arm] = curves
    return found


def _judgements(arms: Sequence[Arm]) -> list[JudgementResult]:
    results: list[JudgementResult] = []
    for arm in arms:
        after = [run.predictions for run in arm.runs if run.predictions is not None]
        before = [run.before for run in arm.runs if run.before is not None]
        if not after or not is_judgement(after[0]):
            continue
        if before and not any(result.model == "base model" for result in results):
            results.insert(0, judge("base model", before))
        results.append(judge(arm.name, after))
    return results


def _levels(arms: Sequence[Arm], tables: Sequence[ScoreTable]) -> list[LevelPoint]:
    """Return a point for each level, where arms are told apart by their level alone."""
    by_level: dict[str, Arm] = {}
    for arm in arms:
        level = arm.runs[0].record["data"].get("cot_level")
        if level in by_level or level not in ("none", *REASONING_LEVELS):
            return []
        by_level[level] = arm
    if len(by_level) < 2 or not tables:
        return []
    points = []
    for level in ("none", *REASONING_LEVELS):
        if level in by_level:
            arm = by_level[level]
            tokens = [run.predictions.mean_tokens() for run in arm.runs if run.predictions]
            mean = _mean(tokens) if tokens else None
            if mean is None or not any(item.arm == arm.name for item in tables[0].arms):
                return []
            points.append(LevelPoint(level, mean, tables[0].arm(arm.name)))
    return points
