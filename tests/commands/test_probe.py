"""``python -m icot.probe`` as a user calls it, on a real run."""

import csv
import json
import shutil

import pytest

from tests.conftest import icot
from tests.running import assert_refused

NARROW = ["quantities=false", "tokens=[1,2]", "layers=[1]", "causal=0", "attention=null"]
QUICK = ["test_share=0.5", "paths.cache_dir=cache", "accelerator=cpu", "causal=10"]


def probe(run, *overrides, cwd):
    return icot("probe", f"run_dir={run}", *QUICK, *overrides, cwd=cwd)


@pytest.fixture(scope="module")
def probed(small_run, tmp_path_factory):
    """All stages, with the run itself as a baseline."""
    folder = tmp_path_factory.mktemp("probe")
    for name in ("run", "other"):
        shutil.copytree(small_run, folder / name)
    for stage in (1, 2, 3, 5, 6, 7):
        (folder / "run" / "checkpoints" / f"stage-{stage:04d}.ckpt").unlink()
    more = ["stage=all", f"baselines=[{folder / 'other'}]", "out=p"]
    done = probe(folder / "run", *more, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder, more, done


def test_every_stage_is_probed_and_drawn(probed):
    folder, _, done = probed
    found = json.loads((folder / "p" / "probe.json").read_text())
    assert "unfinished" not in found
    models = found["models"]
    assert [m["tokens_removed"] for m in models] == [0, 4, 8, 8]
    assert models[0]["model"] == "0"
    assert models[-1]["model"] == "other"
    assert models[0]["layers"] == [0, 1]
    assert models[0]["positions"][:7] == ["x-5", "x-4", "x-3", "x-2", "x-1", "sep", "z1"]
    assert (models[0]["learned"], models[0]["tested"]) == (25, 25)
    kinds = {b["target"]: b["kind"] for b in models[1]["best"]}
    assert kinds["z3"] == "removed token"
    assert kinds["z7"] == "written token"
    assert kinds["product 1 carry 2"] == "quantity"
    for one in models[-1]["best"]:  # the same weights, the same numbers
        assert one in models[-2]["best"]
    assert models[0]["causal"]
    rows = list(csv.DictReader((folder / "p" / "probe.csv").open()))
    assert {row["model"] for row in rows} == {m["model"] for m in models}
    for row in rows:
        difference = float(row["accuracy"]) - float(row["control"])
        assert float(row["selectivity"]) == pytest.approx(difference, abs=2e-4)
        assert row["kind"] in ("removed token", "written token", "quantity")
    pictures = {path.name for path in (folder / "p").glob("*.png")}
    assert pictures == {"stages-tokens.png", "stages-quantities.png"} | {
        f"{m['model']}-{what}.png"
        for m in models
        for what in ("tokens", "quantities", "replaced", "attention")
    }
    assert "Probes at their best layer and position" in done.stdout


def test_stopped_probes_go_on_and_finished_ones_are_kept(probed, tmp_path):
    folder, more, _ = probed
    shutil.copytree(folder / "p", tmp_path / "p")
    whole = {name: (folder / "p" / name).read_text() for name in ("probe.json", "probe.csv")}
    assert_refused(
        probe(folder / "run", *more, cwd=tmp_path), "finished ones, which are not overwritten"
    )

    content = json.loads(whole["probe.json"])
    content = {"unfinished": "2 of 4 models", **content, "models": content["models"][:2]}
    (tmp_path / "p" / "probe.json").write_text(json.dumps(content))
    other = probe(folder / "run", *more, "seed=1", cwd=tmp_path)
    assert_refused(other, "others, unfinished")
    done = probe(folder / "run", *more, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "0: is there already." in done.stdout
    for name, text in whole.items():
        assert (tmp_path / "p" / name).read_text() == text


def test_the_folder_is_one_in_the_run_and_parts_can_be_chosen(small_run, tmp_path):
    shutil.copytree(small_run, tmp_path / "run")
    chosen = ["layers=[1]", "positions=[sep,x-1]", "tokens=[1,2]", "quantities=false"]
    done = probe("run", *chosen, "causal=0", "attention=null", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "run" / "probes" / "final"
    rows = list(csv.DictReader((folder / "probe.csv").open()))
    assert {(r["layer"], r["position"], r["target"]) for r in rows} == {
        ("1", position, target) for position in ("sep", "x-1") for target in ("z1", "z2")
    }
    assert {path.name for path in folder.glob("*.png")} == {"final-tokens.png", "stages-tokens.png"}


def test_baselines_whose_folders_are_called_like_a_stage_or_alike_are_probed(small_run, tmp_path):
    for name in ("icot", "no_cot", "explicit"):
        shutil.copytree(small_run, tmp_path / name / "0")
    more = ["stage=0", "baselines=[no_cot/0,explicit/0]", "out=p", "positions=[sep]", *NARROW]
    done = probe("icot/0", *more, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "is there already" not in done.stdout
    path = tmp_path / "p" / "probe.json"
    content = json.loads(path.read_text())
    assert [m["model"] for m in content["models"]] == ["0", "no_cot-0", "explicit-0"]
    content["models"][2]["checkpoint"] = "elsewhere/last.ckpt"
    path.write_text(json.dumps({"unfinished": "3 of 3 models", **content}))
    assert_refused(probe("icot/0", *more, cwd=tmp_path), "holds probes of elsewhere/last.ckpt")


def test_what_no_position_can_tell_has_no_number(small_run, tmp_path):
    """The answer comes behind a chain that is written, so nothing of it is read there."""
    done = probe(small_run, "stage=0", "out=p", "positions=[y1,y2]", *NARROW, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    assert "nan" not in done.stdout
    text = (tmp_path / "p" / "probe.json").read_text()
    (model,) = json.loads(text, parse_constant=pytest.fail)["models"]
    assert model["summary"]["written token"]["accuracy"] is None


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["positions=[nowhere]"], "positions: nowhere:"),
        (["layers=[0,5]"], "layers: 5: the model has 1 blocks, so 0 to 1"),
        (["test_share=0.25"], "has 50 questions; test_share=0.25 leaves 38 of them to learn from"),
        (["examples=60", "test_share=0.25"], "examples=60: test_share=0.25 leaves 45 of them"),
        (["tokens=[99]", "quantities=false"], "nothing to read"),
        (["attention=400"], "attention=400: there are 25 tested questions"),
        (["stage=17"], "stage=17"),
        (["positions=[z1]"], "no sequence of these stages has any of these"),
    ],
)
def test_mistakes_are_one_message(small_run, tmp_path, overrides, said):
    assert_refused(probe(small_run, "out=p", *overrides, cwd=tmp_path), said)


def test_another_task_is_no_baseline(small_run, tmp_path):
    shutil.copytree(small_run, tmp_path / "other")
    config = tmp_path / "other" / "config.yaml"
    config.write_text(config.read_text().replace("valid_size: 40", "valid_size: 41"))
    done = probe(small_run, "out=p", "baselines=[other]", cwd=tmp_path)
    assert_refused(done, "other has other held-out questions")
    assert not (tmp_path / "p" / "probe.json").exists()  # told before the run itself is probed


def test_probing_needs_a_run(tmp_path):
    done = icot("probe", cwd=tmp_path)
    assert_refused(done, "run_dir must be set")
