"""One report, from a typed config to a folder of pages, figures and tables."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ift_lightning.config.report_schema import ReportConfig
from ift_lightning.errors import UserError
from ift_lightning.reporting.analysis import Analysis, analyse
from ift_lightning.reporting.arms import Arm, group_into_arms
from ift_lightning.reporting.before_after import compare_before_after
from ift_lightning.reporting.build import ReportFiles, write_report
from ift_lightning.reporting.fairness import check_evaluations
from ift_lightning.reporting.judgement import is_judgement, judge
from ift_lightning.reporting.runs import Run, RunSet, read_run, read_runs, read_sweep
from ift_lightning.reporting.summary import summarise


def report(config: ReportConfig) -> ReportFiles:
    """Read runs, compare them, and write a report.

    Raises:
        UserError: What was asked for is unclear, or there is nothing to compare.
    """
    folder = Path(config.output).expanduser() if config.output else Path(config.run_dir)
    analysis = _analyse(config)
    files = write_report(analysis, folder)
    _show(analysis, files)
    return files


def _analyse(config: ReportConfig) -> Analysis:
    given = {
        "sweep": bool(config.sweep),
        "runs": bool(config.runs),
        "before and after": bool(config.before or config.after),
    }
    chosen = [name for name, is_given in given.items() if is_given]
    if len(chosen) != 1:
        what = "nothing was given" if not chosen else f"{' and '.join(chosen)} were given"
        raise UserError(
            f"{what}; give one of sweep=FOLDER, runs=[FOLDER,…], or before=FOLDER after=FOLDER"
        )
    if config.num_resamples < 1000:
        raise UserError(
            f"num_resamples={config.num_resamples}: fewer than 1000 leave the tails of an "
            "interval to chance"
        )
    if config.before or config.after:
        return _analyse_before_after(config)
    if config.sweep:
        folder = Path(config.sweep).expanduser()
        found, title = read_sweep(folder), f"Sweep {folder.resolve().name}"
    else:
        found, title = read_runs([_folder(item) for item in config.runs]), "Comparison of runs"
    return _analyse_arms(config, found, title)


def _folder(text: str) -> Path:
    return Path(text).expanduser()


def _analyse_arms(config: ReportConfig, found: RunSet, title: str) -> Analysis:
    arms = group_into_arms(found.runs)
    factors = list(arms[0].factors) if arms else []
    if factors and factors != ["name"]:
        title = f"{title}: {', '.join(factors)}"
    return analyse(
        config.title or title,
        arms,
        found.left_out,
        metric=config.metric,
        baseline=config.baseline,
        num_resamples=config.num_resamples,
        num_samples=config.num_samples,
    )


def _analyse_before_after(config: ReportConfig) -> Analysis:
    if not config.after:
        raise UserError("before=… needs after=FOLDER, the run of the tuned model")
    after = read_run_or_fail(_folder(config.after), "after")
    if not config.before or _folder(config.before) == after.folder:
        if after.before is None:
            raise UserError(
                f"after={after.folder} has no predictions_before.jsonl; give before=FOLDER, an "
                "evaluation of the base model"
            )
        return _analyse_arms(config, RunSet([after], []), f"{after.name} before and after tuning")
    before = read_run_or_fail(_folder(config.before), "before")
    return _analyse_two(config, before, after)


def read_run_or_fail(folder: Path, option: str) -> Run:
    """Read a run that a report cannot do without.

    Raises:
        UserError: It cannot be read, or did not finish.
    """
    try:
        return read_run(folder)
    except UserError as error:
        raise UserError(f"{option}={folder}: {error}") from error


def _analyse_two(config: ReportConfig, before: Run, after: Run) -> Analysis:
    """Hold one run's answers against another's."""
    earlier, later = before.predictions, after.predictions
    for option, run, answers in (("before", before, earlier), ("after", after, later)):
        if answers is None:
            raise UserError(
                f"{option}={run.folder} has no predictions.jsonl; make it with "
                f"python -m ift_lightning.evaluate run={run.folder}"
            )
    assert earlier is not None and later is not None
    if not set(earlier.by_problem) & set(later.by_problem):
        raise UserError(
            f"before={before.folder} and after={after.folder} have no problem in common; evaluate "
            "both on the same rows"
        )
    analysis = _analyse_arms(
        config, RunSet([after], []), f"{before.name} before, {after.name} after"
    )
    metrics = [tuple(_test_scores(run) for run in (before, after))]
    name = analysis.arms[0].name
    item = compare_before_after(
        name,
        [earlier],
        [later],
        [after.seed],
        [(metrics[0][0], metrics[0][1])],
        num_resamples=config.num_resamples,
        num_samples=config.num_samples,
    )
    judgements = (
        (judge(f"before: {before.name}", [earlier]), judge(f"after: {after.name}", [later]))
        if is_judgement(earlier) and is_judgement(later)
        else ()
    )
    pair = [Arm("before", {}, (before,)), Arm("after", {}, (after,))]
    return replace(
        analysis,
        before_after=(item,),
        fairness=check_evaluations(pair),
        judgements=judgements,
    )


def _test_scores(run: Run) -> dict[str, float]:
    return {
        name.removeprefix("test/"): value
        for name, value in run.metrics.items()
        if name.startswith("test/")
    }


def _show(analysis: Analysis, files: ReportFiles) -> None:
    """Print what was found, and where it stands."""
    for line in summarise(analysis):
        print(line)
    print(f"report:   {files.html}\nmarkdown: {files.markdown}")
