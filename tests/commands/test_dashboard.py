"""What a W&B run holds, and that the dashboard names nothing else."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import SMALL, icot

pytest.importorskip("wandb_workspaces")
SEEDS = (1, 2)


@pytest.fixture(scope="module")
def sweep(tmp_path_factory) -> Path:
    """Two offline runs, one after the other in one process."""
    folder = tmp_path_factory.mktemp("wandb")
    done = icot(
        "train",
        "-m",
        *SMALL,
        "schedule=icot_si",
        "schedule.tokens_per_epoch=4",
        "trainer.max_epochs=3",
        "trainer.log_every_n_steps=5",
        "logger=wandb",
        "logger.tags=[mine]",
        f"seed={','.join(map(str, SEEDS))}",
        "hydra.sweep.dir=two_seeds",
        "hydra.sweep.subdir=seed_${seed}",
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr
    return folder / "two_seeds"


def inspected(run: Path, *options: str) -> str:
    """What W&B's own inspector prints of a run directory's offline run."""
    (offline,) = (run / "wandb").glob("offline-run-*")
    done = subprocess.run(
        [Path(sys.executable).with_name("wandb"), "leet", "inspect", "--json", *options, offline],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return done.stdout


def records(run: Path) -> list[dict]:
    return [json.loads(line) for line in inspected(run).splitlines()]


@pytest.fixture(scope="module")
def logged(sweep) -> list[dict]:
    return records(sweep / "seed_1")


def of_type(logged: list[dict], kind: str) -> list[dict]:
    return [record[kind] for record in logged if record["type"] == kind]


def history_keys(logged: list[dict]) -> set[str]:
    return {key for item in of_type(logged, "history") for key in item["item"]}


def test_validation_has_tokens_removed_as_its_axis(logged):
    axes = {m.get("glob_name"): m.get("step_metric") for m in of_type(logged, "metric")}
    assert axes["val/*"] == "cot/tokens_removed"
    rows = [h["item"] for h in of_type(logged, "history") if "val/accuracy" in h["item"]]
    assert [row["cot/tokens_removed"] for row in rows] == list(range(9))


def test_runs_of_a_sweep_are_one_group_with_type_tags_and_the_whole_configuration(sweep):
    names = []
    for seed in SEEDS:
        (run,) = of_type(records(sweep / f"seed_{seed}"), "run")
        assert run["run_group"] == "two_seeds"
        assert run["job_type"] == "train"
        assert run["tags"] == ["mult2", "tiny", "icot_si", "mine"]
        names.append(run["display_name"])
        config = run["config"]["update"]
        assert (config["seed"], config["schedule"]["tokens_per_epoch"]) == (seed, 4)
        assert config["run"]["schedule"] == "icot_si"
        assert config["run"]["parameters"] > 0
    assert names == ["seed_1", "seed_2"]


def test_the_stage_table_predictions_and_picture_are_there(sweep, logged):
    (offline,) = (sweep / "seed_1" / "wandb").glob("offline-run-*")
    (last,) = [h["item"] for h in of_type(logged, "history") if "stages.path" in h["item"]]
    table = json.loads((offline / "files" / last["stages.path"]).read_text())
    assert table["columns"][:3] == ["stage", "tokens_removed", "step"]
    assert [row[1] for row in table["data"]] == list(range(9))
    assert last["predictions.nrows"] > 0
    picture = offline / "files" / last["pictures/accuracy_by_tokens_removed.path"]
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_the_dashboard_names_only_what_a_run_logs(sweep, logged, tmp_path):
    done = icot("dashboard", "project=icot", "dry_run=true", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "dashboard.json").read_text()
    summary = json.loads(inspected(sweep / "seed_1", "--summary"))
    in_summary = set(_dotted(summary.get("summary", summary), "/"))
    known = history_keys(logged) | in_summary
    tables = {key.rsplit(".", 1)[0] for key in history_keys(logged) if "." in key}
    (run,) = of_type(logged, "run")
    config = set(_dotted(run["config"]["update"], "."))
    named = set(re.findall(r'"(?:summary:)?((?:val|train|cot|throughput|final)/\w+)"', text))
    assert {"val/accuracy", "cot/tokens_removed", "final/accuracy"} <= named
    assert named <= known
    media = {k for group in re.findall(r'"mediaKeys": \[([^]]*)\]', text) for k in _strings(group)}
    assert media
    assert media | set(re.findall(r'"type": "string",\s*"val": "(\w+)"', text)) <= tables
    keys = set(re.findall(r'"(?:config:)?((?:schedule|run)\.value\.\w+|seed\.value)"', text))
    assert len(keys) >= 4
    assert {key.replace(".value", "") for key in keys} <= config
    content = json.loads(text)
    sections = content["workspace"]["spec"]["section"]["panelBankConfig"]["sections"]
    assert [section["name"] for section in sections][:4] == [
        "Accuracy against tokens removed",
        "Δ × λ",
        "Seeds",
        "Throughput and cost",
    ]
    assert content["report"]["displayName"] == "Ablations"


def test_without_an_account_the_dashboard_says_what_to_do(tmp_path):
    home = {"HOME": str(tmp_path), "NETRC": str(tmp_path / "none"), "WANDB_API_KEY": ""}
    done = icot("dashboard", "project=icot", "entity=me", cwd=tmp_path, **home)
    assert done.returncode == 2
    assert "dry_run=true" in done.stderr
    assert "Traceback" not in done.stderr


def _dotted(values: dict, mark: str, prefix: str = "") -> list[str]:
    found = []
    for key, value in values.items():
        found.append(prefix + key)
        if isinstance(value, dict):
            found += _dotted(value, mark, f"{prefix}{key}{mark}")
    return found


def _strings(text: str) -> list[str]:
    return re.findall(r'"([^"]+)"', text)
