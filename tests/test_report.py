"""``python -m ift_lightning.report`` from run folders to pages, figures and data."""

from __future__ import annotations

import csv
import html.parser
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from run_folders import answer, judgement, passes, write_run

from ift_lightning.comparing import report
from ift_lightning.config.report_schema import ReportConfig
from ift_lightning.errors import UserError

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))),
                None)  # fmt: skip


def write_sweep(folder: Path) -> Path:
    """Write three arms of two seeds on 40 problems, of which one was trained for longer."""
    rng = np.random.default_rng(0)
    difficulty = rng.random(40)
    before = passes((difficulty < 0.2).astype(int).tolist(), bleu=20.0)
    for number, (peft, skill, size) in enumerate(
        [("lora", 0.8, 100), ("<b>prompt</b>", 0.3, 5), ("full", 0.9, 1000)]
    ):
        for seed in (0, 1):
            right = (difficulty < skill + rng.normal(0, 0.02)).astype(int).tolist()
            write_run(
                folder / f"{2 * number + seed}",
                overrides=[f"peft={peft}"],
                seed=seed,
                answers=passes(right, bleu=30.0 + 10 * skill),
                before=before,
                metrics={"test/loss": 1 - skill + 0.01 * seed, "before/test/loss": 1.0,
                         "test/bleu": 31.0, "before/test/bleu": 21.0},
                changes={"model.num_trainable_parameters": size}
                | ({"performance.num_steps": 12} if peft == "full" else {}),
            )  # fmt: skip
    (folder / "6").mkdir()
    return folder


@pytest.fixture(scope="module")
def sweep_report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sweep")
    write_sweep(folder / "runs")
    config = ReportConfig(
        sweep=str(folder / "runs"), output=str(folder / "report"), num_resamples=2000
    )
    report(config)
    return folder / "report"


class Page(html.parser.HTMLParser):
    """Collects what a page would load from elsewhere, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.tags: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name in ("src", "srcset", "href", "data", "poster") and value:
                self.loaded.append(value)


def test_all_files_are_there(sweep_report: Path) -> None:
    files = {str(path.relative_to(sweep_report)) for path in sweep_report.rglob("*.*")}
    figures = {f"figures/{name}.{kind}" for name in ("method_comparison", "costs", "comparison")
               for kind in ("png", "svg")}  # fmt: skip
    assert files == figures | {
        "report.md", "report.html", "results.csv", "comparison.json", "table.tex"
    }  # fmt: skip


def test_the_page_needs_nothing_else_and_names_are_no_markup(sweep_report: Path) -> None:
    text = (sweep_report / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert all(value.startswith(("data:image/svg+xml;base64,", "#")) for value in page.loaded)
    assert not re.search(r"@import|url\(|https?://", re.sub(r"base64,[\w+/=]+", "", text))
    assert page.tags.count("picture") == 3
    assert "b" not in page.tags
    assert "&lt;b&gt;prompt&lt;/b&gt;" in text


def test_the_summary_says_what_was_found_and_what_is_unfair(sweep_report: Path) -> None:
    text = (sweep_report / "report.md").read_text(encoding="utf-8")
    summary = text[: text.index("## Are the arms comparable?")]
    assert re.search(r"- lora passes [\d.]+ points more than \\<b\\>prompt\\</b\\> \(95 %", summary)
    assert "No detectable difference between lora and full" in summary
    assert "full had other conditions than the rest" in summary
    assert "1 run did not finish" in summary
    assert re.search(r"lora, before and after tuning: after passes .*problems fixed", summary)
    assert "| optimizer steps | budget | lora: 10; \\<b\\>prompt\\</b\\>: 10; full: 12 |" in text
    assert "| full \\* |" in text
    assert "![" in text and "(figures/costs.png)" in text


def test_the_data_agree_with_the_page(sweep_report: Path) -> None:
    data = json.loads((sweep_report / "comparison.json").read_text(encoding="utf-8"))
    assert [table["metric"] for table in data["scores"]] == ["pass@1", "bleu", "loss"]
    arms = {arm["arm"]: arm for arm in data["scores"][0]["arms"]}
    with (sweep_report / "results.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["arm"], row["seed"]) for row in rows] == [
        (name, seed) for name in arms for seed in ("0", "1")
    ]
    assert rows[0]["test/loss"] == "0.19999999999999996"
    assert data["arms"][2]["unlike_the_others_in"] == ["optimizer steps"]
    assert data["left_out"][0]["folder"].endswith("/6")
    item = data["before_after"][0]
    assert item["metrics"]["bleu"] == {"before": 21.0, "after": 31.0, "difference": 10.0}
    assert len(item["samples"]) == 6
    assert set(item["samples"][0]) >= {"prompt", "reference", "before", "after", "outcome"}
    text = (sweep_report / "report.md").read_text(encoding="utf-8")
    assert f"| lora | {arms['lora']['mean']:.1f} |" in text


def test_the_table_for_a_paper(sweep_report: Path) -> None:
    text = (sweep_report / "table.tex").read_text(encoding="utf-8")
    assert text.count("\\\\") == 4
    assert "pass@1 (\\%) $\\uparrow$" in text
    assert "test loss (nats per token) $\\downarrow$" in text
    assert "\\textbf{0.1050} $\\pm$ 0.0071" in text


def test_a_report_is_the_same_every_time(tmp_path: Path) -> None:
    write_sweep(tmp_path / "runs")
    texts = []
    for name in ("a", "b"):
        folder = tmp_path / name
        report(ReportConfig(sweep=str(tmp_path / "runs"), output=str(folder), num_resamples=1000))
        texts.append([(folder / f).read_bytes() for f in ("report.html", "comparison.json")])
    assert texts[0] == texts[1]


def test_judgements_get_their_own_files(tmp_path: Path) -> None:
    def lines(given: str) -> list[dict]:
        return [judgement(f"d{i}", ("差一错误", "无缺陷")[i % 2], ("有缺陷", "无缺陷")[i % 2],
                          given if i % 3 else None) for i in range(12)]  # fmt: skip

    run = write_run(tmp_path / "run", answers=lines("有缺陷"), before=lines("无缺陷"))
    report(ReportConfig(after=str(run), output=str(tmp_path / "out"), num_resamples=1000))
    figures = {path.stem for path in (tmp_path / "out" / "figures").glob("*.png")}
    assert figures >= {
        "subtype_accuracy", "model_comparison", "overall_accuracy_comparison",
        "type_accuracy_comparison", "comparison",
    }  # fmt: skip
    results = json.loads((tmp_path / "out" / "evaluation_results.json").read_text("utf-8"))
    before, after = results["models"]
    assert (before["model"], after["model"]) == ("base model", "tiny-lora-drills")
    assert after["subtypes"]["差一错误"]["correct"] == 4
    assert after["subtypes"]["差一错误"]["total"] == 6
    assert after["types"]["无缺陷"]["correct"] == 0
    assert after["invalid_answers"]["correct"] == 4
    assert after["results"][1]["predicted"] == "有缺陷"
    text = (tmp_path / "out" / "report.md").read_text("utf-8")
    assert "4/6 = 66.7 %" in text


def test_two_evaluations_are_before_and_after(tmp_path: Path) -> None:
    base = write_run(tmp_path / "base", answers=passes([0, 0, 1, 0]), name="base",
                     metrics={"test/bleu": 10.0})  # fmt: skip
    tuned = write_run(tmp_path / "tuned", answers=passes([1, 1, 1]), name="tuned",
                      metrics={"test/bleu": 30.0})  # fmt: skip
    report(ReportConfig(before=str(base), after=str(tuned), output=str(tmp_path / "out"),
                        num_resamples=1000))  # fmt: skip
    data = json.loads((tmp_path / "out" / "comparison.json").read_text("utf-8"))
    (item,) = data["before_after"]
    assert item["metrics"]["bleu"]["difference"] == 20
    assert item["changes"]["fixed"] == ["p0", "p1"]
    assert item["by_problem"][0]["num_problems_left_out"] == 1


def test_levels_and_templates_have_their_figures(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    for level, tokens in (("none", 10), ("complex", 90), ("simple", 40)):
        lines = [answer(f"p{i}", bool(rng.random() < 0.5)) | {"num_tokens": tokens}
                 for i in range(20)]  # fmt: skip
        write_run(tmp_path / "cot" / level, overrides=[f"cot_level={level}"], answers=lines,
                  changes={"data.cot_level": level})  # fmt: skip
    for template in ("zh_sft", "zh_instruction"):
        for seed in (0, 1):
            write_run(tmp_path / "tpl" / f"{template}{seed}", overrides=[f"template={template}"],
                      seed=seed, metrics={"val/loss": 0.3 + 0.1 * rng.random()})  # fmt: skip
    for name, figure in (("cot", "reasoning_levels"), ("tpl", "template_loss")):
        out = tmp_path / f"{name}-report"
        report(ReportConfig(sweep=str(tmp_path / name), output=str(out), num_resamples=1000))
        assert (out / "figures" / f"{figure}.png").is_file()
    text = (tmp_path / "tpl-report" / "report.md").read_text("utf-8")
    assert "eval loss (nats per token, lower is better)" in text


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "nothing was given; give one of sweep"),
        ({"sweep": "a", "runs": ["b"]}, "sweep and runs were given"),
        ({"before": "a"}, "needs after=FOLDER"),
        ({"after": "missing"}, "after=missing: missing is no run folder"),
        ({"runs": ["missing"]}, "none of the runs is finished"),
        ({"sweep": "a", "num_resamples": 10}, "leave the tails"),
    ],
)
def test_unclear_requests_are_refused(options: dict, words: str) -> None:
    with pytest.raises(UserError) as error:
        report(ReportConfig(**options))
    assert words in str(error.value)


def test_unknown_arms_and_scores_are_refused(tmp_path: Path) -> None:
    write_sweep(tmp_path)
    for option, words in (({"baseline": "lorra"}, "Did you mean 'lora'"),
                          ({"metric": "test/rouge"}, "no such score")):  # fmt: skip
        with pytest.raises(UserError, match=words):
            report(ReportConfig(sweep=str(tmp_path), num_resamples=1000, **option))


def test_runs_without_answers_cannot_be_before_and_after(tmp_path: Path) -> None:
    empty, other = write_run(tmp_path / "a"), write_run(tmp_path / "b", answers=passes([1]))
    for options, words in (
        ({"after": str(empty)}, "has no predictions_before.jsonl"),
        ({"before": str(empty), "after": str(other)}, "has no predictions.jsonl"),
    ):
        with pytest.raises(UserError, match=words):
            report(ReportConfig(num_resamples=1000, **options))


def test_the_command(tmp_path: Path) -> None:
    write_sweep(tmp_path / "runs")
    command = [sys.executable, "-m", "ift_lightning.report", f"hydra.run.dir={tmp_path / 'out'}"]
    done = subprocess.run(
        [*command, f"sweep={tmp_path / 'runs'}", "num_resamples=1000", "baseline=lora"],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "warning: full differs from the other arms in: optimizer steps" in done.stdout
    assert (tmp_path / "out" / "report.html").is_file()
    failed = subprocess.run(
        [*command, "sweeep=x"], capture_output=True, text=True, timeout=120, check=False
    )
    assert failed.returncode == 1
    assert "Did you mean 'sweep'" in failed.stderr
    assert "Traceback" not in failed.stderr


def _chromium(profile: Path, *arguments: str) -> str:
    assert CHROMIUM is not None
    return subprocess.run(
        [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
         f"--user-data-dir={profile}", *arguments],
        capture_output=True, text=True, timeout=100, check=True,
    ).stdout  # fmt: skip


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine (Debian: chromium)")
def test_tables_sort_in_a_browser(sweep_report: Path, tmp_path: Path) -> None:
    """Click the headings of the first table of scores, and read the rows' order each time."""
    script = """<script>
    const table = [...document.querySelectorAll("table.sortable")]
      .find((t) => t.caption.textContent.startsWith("pass@1"));
    const order = () => [...table.tBodies[0].rows].map((r) => r.cells[0].textContent).join();
    const click = (i) => { table.tHead.rows[0].cells[i].querySelector("button").click();
      return order() + " " + table.tHead.rows[0].cells[i].getAttribute("aria-sort"); };
    onload = () => document.title = [order(), click(1), click(1), click(0)].join(" | ")
      + " | " + [...document.images].every((i) => i.complete && i.naturalWidth > 300);
    </script></body>"""
    text = (sweep_report / "report.html").read_text(encoding="utf-8")
    page = tmp_path / "page.html"
    page.write_text(text.replace("</body>", script), encoding="utf-8")
    dumped = _chromium(tmp_path / "profile", "--dump-dom", "--virtual-time-budget=3000",
                       page.as_uri())  # fmt: skip
    found = re.search("<title>(.*?)</title>", dumped)
    assert found is not None
    prompt = "&lt;b&gt;prompt&lt;/b&gt;"
    assert found.group(1).split(" | ") == [
        f"lora,{prompt},full *",
        f"{prompt},lora,full * ascending",
        f"full *,lora,{prompt} descending",
        f"{prompt},full *,lora ascending",
        "true",  # every figure was drawn
    ]


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine (Debian: chromium)")
def test_the_page_follows_the_readers_colour_scheme(sweep_report: Path, tmp_path: Path) -> None:
    from PIL import Image

    for scheme, ground in ((1, (255, 255, 255)), (0, (22, 25, 29))):
        shot = tmp_path / f"{scheme}.png"
        _chromium(
            tmp_path / "profile", f"--blink-settings=preferredColorScheme={scheme}",
            f"--screenshot={shot}", "--window-size=1000,1600",
            (sweep_report / "report.html").as_uri(),
        )  # fmt: skip
        image = Image.open(shot).convert("RGB")
        assert image.getpixel((5, 5)) == ground
        colors = image.getcolors(1 << 24)
        assert colors is not None
        # Ground and figures are of one scheme: nearly nothing has the other one's ground.
        other = (22, 25, 29) if scheme else (255, 255, 255)
        share = {color: count / (1000 * 1600) for count, color in colors}
        assert share[ground] > 0.7
        assert share.get(other, 0) < 0.01
