"""A report is made from run directories alone, and shows what is missing too."""

import base64
import re
import shutil
from html.parser import HTMLParser
from itertools import product
from pathlib import Path

import pytest

from icot.reporting.differences import nearest, of_experiment
from icot.reporting.document import Code, Document, Section, Table
from icot.reporting.page import markdown, page
from icot.reporting.paper import paper_rows
from icot.reporting.runs import find_runs
from icot.reporting.series import gather_series
from icot.reporting.statistics import mean_interval
from icot.runs.sweeps import read_index
from tests.conftest import icot
from tests.made_runs import make_index, make_run


class Page(HTMLParser):
    """What a browser would load and show."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.images: list[dict[str, str | None]] = []
        self.sources: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.text: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        if tag == "img":
            self.images.append(found)
        self.sources += [found[k] for k in ("src", "srcset") if k in found]
        self.links += [found["href"]] if "href" in found else []
        self.ids += [found["id"]] if "id" in found else []

    def handle_data(self, data):
        self.text.append(data)


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
        "seeds",
        "accuracy_by_tokens_removed_2_x_2_digits_sweep_outputs",
        "seeds_by_tokens_removed_2_x_2_digits_sweep_outputs",
        "delta_lambda",
        "offsets",
    }
    for name in names:
        assert (report / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert b"<svg" in (report / "figures" / f"{name}.svg").read_bytes()
    shown = Page((report / "report.html").read_text())
    assert len(shown.images) == len(names)
    for image in shown.images:
        assert len(image["alt"] or "") > 40


def test_the_page_opens_offline(report):
    shown = Page((report / "report.html").read_text())
    assert len(shown.sources) == 2 * len(shown.images)  # for light and for dark screens
    for source in shown.sources:
        kind, _, data = source.partition(";base64,")
        assert kind == "data:image/svg+xml"
        assert b"<svg" in base64.b64decode(data)
    anchors = [link for link in shown.links if link.startswith("#")]
    assert anchors
    assert {link[1:] for link in anchors} <= set(shown.ids)
    assert all(link.startswith(("#", "data:")) for link in shown.links)


def test_every_number_of_the_paper_stands_beside_ours_or_is_missing_with_its_command(report):
    text = (report / "report.md").read_text()
    for row in paper_rows():
        (line,) = [x for x in text.splitlines() if f"`{row.command}`" in x]
        assert row.number in line
        assert "missing" in line
    runs, _, _ = find_runs([report.parent / "outputs"])
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
    runs, missing, _ = find_runs([sweep])
    series = {one.label: one for one in gather_series(runs)}
    assert len(missing) == 1
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
    runs, _, _ = find_runs([sweep, again])
    (series,) = [one for one in gather_series(runs) if one.label == "full method, Δ 4, λ inf"]
    assert len(series.runs) == 3
    assert [run.cfg.seed for run in series.seeds] == [1, 2]
    assert len(series.accuracies) == 2


def test_the_papers_number_stands_beside_the_runs_that_change_the_fewest_settings(sweep):
    runs, _, _ = find_runs([sweep])
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
