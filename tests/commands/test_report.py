"""A report is made from run directories alone, and shows what is missing too."""

import re
import shutil
from html.parser import HTMLParser
from itertools import product
from pathlib import Path

import pytest

from icot.reporting.differences import nearest, of_experiment
from icot.reporting.document import Code, Document, Section, Table
from icot.reporting.finding import find_runs
from icot.reporting.page import markdown, page
from icot.reporting.paper import paper_rows
from icot.reporting.series import gather_series
from icot.reporting.statistics import mean_interval
from icot.runs.sweeps import read_index
from tests.conftest import icot
from tests.made_runs import make_index, make_run


class Page(HTMLParser):
    """What a browser would load and show."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    def values(self, attribute: str) -> list[str]:
        return [found[attribute] for _, found in self.tags if found.get(attribute)]


@pytest.fixture(scope="module")
def sweep(tmp_path_factory) -> Path:
    """Δ × λ with two seeds, a baseline, and a run that has failed."""
    folder = tmp_path_factory.mktemp("sweep") / "outputs"
    rows = []
    for number, (delta, smoothing, seed) in enumerate(
        product((4.0, 8.0), (4.0, float("inf")), (1, 2))
    ):
        name = f"delta_{delta:g}_lambda_{smoothing:g}_seed_{seed}"
        changes = {
            "schedule.tokens_per_epoch": delta,
            "schedule.smoothing_lambda": smoothing,
            "seed": seed,
        }
        end = 0.1 * number
        make_run(
            folder / name,
            changes=changes,
            accuracy=end,
            curve=((0, 1.0), (8, end)),
            sweep="outputs",
        )
        rows.append((f"+sweep=delta_lambda seed={seed}", name, ""))
    rows.append(("+sweep=delta_lambda model.tokenizer=missing", "", "no tokenizer missing"))
    make_index(folder, *rows)
    make_run(folder / "no_cot", "table2_4x4_no_cot_cpu")
    return folder


@pytest.fixture(scope="module")
def report(sweep) -> Path:
    done = icot("report", str(sweep), "out=report", cwd=sweep.parent)
    assert done.returncode == 0, done.stderr
    assert "9 of 9 runs finished, 1 runs of sweeps have not ended" in done.stdout
    return sweep.parent / "report"


def test_pictures_are_there_as_png_and_svg_and_in_the_page(report):
    names = {path.stem for path in (report / "figures").iterdir()}
    assert names == {
        *(f"run_full_method_δ_{d}_λ_{smoothing}" for d in (4, 8) for smoothing in (4, "inf")),
        "accuracy_by_tokens_removed_2_x_2_digits_sweep_outputs",
        "seeds",
        "delta_lambda",
        "offsets",
    }
    for name in names:
        assert (report / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert b"<svg" in (report / "figures" / f"{name}.svg").read_bytes()
    shown = Page((report / "report.html").read_text())
    pictures = shown.all("svg")
    assert len(pictures) == len(shown.all("figure")) == len(names)
    for picture in pictures:
        assert len(picture["aria-label"] or "") > 40


def test_each_picture_has_points_that_a_keyboard_reaches_and_a_table_of_them(report):
    text = (report / "report.html").read_text()
    label = "seed 2: validation exact match 0.500, chain tokens removed 8"
    for figure in text.split("<figure>")[1:]:
        figure = figure.split("</figure>")[0]
        points = [g for g in Page(figure).all("g") if g.get("class") == "point"]
        assert [p["tabindex"] for p in points] == ["0", *["-1"] * (len(points) - 1)]
        assert len(points) > 1
        assert figure.count("<details>") == 1
        assert figure.count("<td") > len(points)
        assert '"><g aria-hidden="true">' in figure  # the drawing, besides its points
    (curve,) = [
        f
        for f in text.split("<figure>")
        if "Accuracy by tokens removed, full method, Δ 8, λ 4." in f
    ]
    assert label in [g.get("aria-label") for g in Page(curve).all("g")]


def test_the_page_loads_nothing_and_follows_the_screen(report):
    text = (report / "report.html").read_text()
    shown = Page(text)
    assert not {"src", "srcset"} & {name for _, found in shown.tags for name in found}
    assert "@import" not in text
    assert set(re.findall(r"url\(([^)]*)", text)) <= {f"#{i}" for i in shown.values("id")}
    assert len(shown.values("id")) == len(set(shown.values("id")))
    anchors = [link for link in shown.values("href") if link != "data:,"]
    assert anchors
    assert {link.removeprefix("#") for link in anchors} <= set(shown.values("id"))
    for color in ("--000001", "--000002", "--000010"):
        assert len(set(re.findall(rf"{color}: (#\w+);", text))) == 2  # light and dark
        assert f"var({color})" in text
    assert not re.search(r": #0000[01]\d\b(?!;)", text.split("</style>")[1])


def test_the_report_begins_with_a_card_for_each_series(report):
    text = (report / "report.md").read_text()
    headings = [line for line in text.splitlines() if line.startswith("#")]
    assert headings[:2] == ["# Runs of icot", "## Runs"]
    cards = [heading for heading in headings if heading.startswith("### ")]
    assert cards[0] == "### 2 × 2 digits: full method, Δ 4, λ 4"
    assert cards[-1] == "### 2 × 2 digits: No CoT"
    card = text.split(cards[2])[1].split("###")[0]
    for words in (
        "**0.450 (0.000-1.000)** mean exact match of 2 seeds",
        "- each seed: 1: 0.400, 2: 0.500",
        "- removed: 8 of 8 chain tokens",
        "- time: 60 s on a processor, 1 thread",
        "- cost: 640 examples, 208 tokens, 4.99e+08 FLOPs a run",
        "- command: `python -m icot.train experiment=figure3_full_cpu",
        "| No CoT | 0.500 (0.400-0.600) | -0.050 | 640 |",
    ):
        assert words in card


def test_every_number_of_the_paper_stands_beside_ours_or_is_folded_with_its_command(report):
    text = (report / "report.md").read_text()
    beside, folded = text.split("## Against the paper")[1].split("</details>")[0].split("<details>")
    assert f"{len(paper_rows()) - 2} numbers of the papers have no run here" in folded
    for row in paper_rows():
        ran = row.experiment in ("table2_4x4_no_cot", "figure3_full")
        (line,) = [x for x in text.splitlines() if f"`{row.command}`" in x]
        assert row.number in line
        assert ("missing" in line) == ran
        assert line in (beside if ran else folded)
    runs = find_runs([report.parent / "outputs"]).runs
    (baseline,) = [run for run in runs if run.experiment == "table2_4x4_no_cot_cpu"]
    (line,) = [x for x in text.splitlines() if "experiment=table2_4x4_no_cot`" in x]
    assert f"| {baseline.accuracy:.3f} |" in line
    (difference,) = [x for x in text.splitlines() if x.startswith("| `table2_4x4_no_cot_cpu`")]
    for words in ("digits 2 (paper 4)", "optimizer muon (paper adamw)", "one H100"):
        assert words in difference
    assert "Δ" not in difference  # a baseline does not heed it


def test_a_run_that_failed_is_missing_with_its_message_and_command(report, sweep):
    (failed,) = [row for row in read_index(sweep) if row["state"] == "failed"]
    (line,) = [x for x in (report / "report.md").read_text().splitlines() if "| failed:" in x]
    assert failed["command"] in line
    assert "missing" in line


def test_cost_is_counted(report, sweep):
    runs = find_runs([sweep]).runs
    (baseline,) = [run for run in runs if run.experiment == "table2_4x4_no_cot_cpu"]
    assert baseline.flops == 6 * 400_000 * 208
    assert f"{baseline.flops:.2e}" in (report / "report.md").read_text()


def test_a_real_run_is_reported(small_run, tmp_path):
    done = icot("report", str(small_run), "out=report", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "1 of 1 runs finished, 0 runs of sweeps have not ended" in done.stdout
    assert "Not read" not in done.stdout
    assert "| 8 of 8 |" in (tmp_path / "report" / "report.md").read_text()


def test_series_are_runs_that_differ_in_their_seed_alone(sweep):
    found = find_runs([sweep])
    series = {one.label: one for one in gather_series(found.runs)}
    assert len(found.missing) == 1
    assert sorted(series) == [
        "No CoT",
        "full method, Δ 4, λ 4",
        "full method, Δ 4, λ inf",
        "full method, Δ 8, λ 4",
        "full method, Δ 8, λ inf",
    ]
    assert [run.cfg.seed for run in series["full method, Δ 4, λ 4"].runs] == [1, 2]


def test_a_seed_counts_once_however_often_it_was_run(sweep, tmp_path):
    again = tmp_path / "again"
    (first,) = sweep.glob("delta_4_lambda_inf_seed_1")
    shutil.copytree(first, again)
    runs = find_runs([sweep, again]).runs
    (series,) = [one for one in gather_series(runs) if one.label == "full method, Δ 4, λ inf"]
    assert len(series.runs) == 3
    assert [run.cfg.seed for run in series.seeds] == [1, 2]
    assert len(series.accuracies) == 2


def test_the_papers_number_stands_beside_the_runs_that_change_the_fewest_settings(sweep):
    runs = find_runs([sweep]).runs
    assert of_experiment(runs, "figure3_no_smoothing_cpu") == ([], [])
    assert nearest([], "figure3_no_smoothing_cpu") is None
    kept, left_out = of_experiment(runs, "figure3_full_cpu")
    assert (len(kept), left_out) == (8, [])
    found = nearest(kept, "figure3_full_cpu")  # smoothing as the file says, Δ as near as none
    assert found is not None
    assert found.cfg.schedule.smoothing_lambda == 4
    assert len(found.seeds) == 2


@pytest.mark.parametrize("place", ["nowhere", "empty"])
def test_folders_without_runs_are_refused(place, tmp_path):
    (tmp_path / "empty").mkdir()
    done = icot("report", place, cwd=tmp_path)
    assert done.returncode == 2
    assert place in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / place / "report").exists()


def test_text_is_escaped():
    table = Table(("a|b", "c"), [["<b>x</b>", Code("a | b")]])
    document = Document("<title>", "text & more", [Section("s", tables=[table])])
    html = page(document)
    assert "<b>x" not in html
    assert "&lt;b&gt;x" in html
    assert "<code>a | b</code>" in html
    assert r"`a \| b`" in markdown(document)
    assert not re.search(r"(src|href)=\"https?:", html)


def test_mean_interval_by_hand():
    assert mean_interval([0.5]) == (0.5, None, None)
    middle, low, high = mean_interval([0.4, 0.5, 0.6])
    # t(0.975, 2) = 4.303; the standard deviation is 0.1
    assert middle == pytest.approx(0.5)
    assert (low, high) == (pytest.approx(0.5 - 0.24843, abs=1e-4), pytest.approx(0.74843, abs=1e-4))
    assert mean_interval([0.0, 1.0])[1:] == (0.0, 1.0)
