"""Named sweeps: their runs, their index, and what a second start does."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_module

from icot.config.command_line import mistakes_in
from icot.config.entry_points import register_schemas
from icot.config.experiments import CONFIG_MODULE
from icot.runs.places import directory_overrides
from icot.runs.sweeps import plan_jobs, read_index
from tests.conftest import REPOSITORY, icot

SWEEPS = sorted(path.stem for path in (REPOSITORY / "conf" / "sweep").glob("*.yaml"))
# Two updates of a small model; what is swept is the sweep's.
FEW_EXAMPLES = ("task.train_size=64", "task.valid_size=4")
OF_THE_MODEL = (
    "model.config.n_layer=1",
    "model.config.n_embd=32",
    "model.config.n_head=2",
    "data.batch_size=8",
    "trainer.max_steps=2",
)
TWO_STEPS = (*FEW_EXAMPLES, *OF_THE_MODEL)
SIZES = {"ablation": 21, "delta_lambda": 9, "scotd": 8, "seeds": 3, "side": 6, "suite": 72}
FEWER = {  # of the runs that each makes
    "ablation": ("seed=1", "experiment=figure3_no_reset_cpu,table2_4x4_no_cot_cpu"),
    "delta_lambda": ("schedule.tokens_per_epoch=0.4", "schedule.smoothing_lambda=4,inf"),
    "scotd": ("task.samples=corpus.jsonl", "task.labels=gold", "task.samples_per_question=1,2"),
    "seeds": ("seed=1,2",),
    "side": ("seed=1",),
    "suite": ("task=parity,prosqa", "schedule=adaptive", "seed=1"),
}


@pytest.fixture
def hydra():
    register_schemas()
    with initialize_config_module(CONFIG_MODULE, version_base="1.3"):
        yield


def only(folder: Path) -> Path:
    (found,) = (folder / "outputs" / "sweeps").iterdir()
    return found


def states(sweep: Path) -> list[str]:
    return [row["state"] for row in read_index(sweep)]


@pytest.mark.parametrize("name", SWEEPS)
def test_every_sweep_is_valid(name, hydra):
    assert mistakes_in([f"+sweep={name}"], "train", multirun=True) == []
    cfg = compose("train", [f"+sweep={name}"], return_hydra_config=True)
    jobs = plan_jobs(cfg.hydra.sweeper.params, [f"+sweep={name}"])
    assert len(jobs) == SIZES[name]
    assert len(set(map(tuple, jobs))) == len(jobs)


def _write_samples(path: Path) -> None:
    """Two right samples for each of twenty questions."""
    lines = [
        {
            "index": index,
            "question": f"{index // 10} {index % 10} * 1",
            "answer": f"{index // 10} {index % 10}",
            "sample": number,
            "text": str(number),
            "prediction": f"{index // 10} {index % 10}",
            "correct": True,
        }
        for index in range(20)
        for number in range(2)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.mark.slow
@pytest.mark.parametrize("name", SWEEPS)
def test_every_sweep_trains_two_steps(name, tmp_path):
    few: tuple[str, ...] = FEW_EXAMPLES
    if name == "scotd":  # its examples are those of a corpus
        few = ("task.selection=train_holdout",)
        _write_samples(tmp_path / "corpus.jsonl")
    done = icot("train", "-m", f"+sweep={name}", *FEWER[name], *few, *OF_THE_MODEL, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = read_index(only(tmp_path))
    assert [row["state"] for row in rows] == ["finished"] * 2
    assert all(row["accuracy"] and row["examples_seen"] == "16" for row in rows)


def test_what_a_sweep_varies_is_checked_before_any_run(hydra):
    (mistake,) = mistakes_in(["+sweep=seeds", "seed=1,x"], "train", multirun=True)
    assert mistake.startswith("seed=x")
    for overrides in (["sweep=seeds"], ["+sweep=seeds"]):
        (mistake,) = mistakes_in(overrides, "train", multirun=False)
        assert "-m +sweep=NAME" in mistake
    (mistake,) = mistakes_in(["+sweep=seed"], "train", multirun=True)
    assert "did you mean seeds?" in mistake


def test_the_directory_depends_on_what_is_common(hydra):
    def of(*overrides: str) -> str | None:
        found = directory_overrides("train", overrides, multirun=True)
        return found[0].removeprefix("hydra.sweep.dir=").strip("'") if found else None

    def place(*overrides: str) -> str | None:
        return of("+sweep=delta_lambda", *overrides)

    assert place() == place("seed=3456") == place("schedule.smoothing_lambda=2,4")
    assert place() == place("checkpoints.keep=3", "schedule.tokens_per_epoch=7")
    assert place() != place("data.batch_size=64")
    assert place("hydra.sweep.dir=mine") is None
    assert of("+sweep=ablation") == of("+sweep=ablation", "experiment=figure3_full_cpu")
    suite = of("+sweep=suite")
    assert suite == of("+sweep=suite", "task=parity", "schedule=logarithmic", "seed=1")
    inner = ("schedule.chain_loss=1", "task.seed=5", "task.bits=24", "schedule.threshold=0.9")
    assert len({suite, *(of("+sweep=suite", "task=parity", key) for key in inner)}) == 5
    # Without a name the time tells sweeps apart, and what all runs have in common is in the name.
    assert of("seed=1,2", "task=mult2").endswith("_mult2_tiny_adaptive")
    assert of("schedule=no_cot,explicit", "task=mult2").endswith("_mult2_tiny")


@pytest.mark.slow
def test_killed_in_the_middle_and_started_again(tmp_path):
    """The finished run is left alone, the begun one goes on, the rest is run."""
    arguments = [
        "-m",
        "+sweep=seeds",
        "seed=1,2,3",
        *TWO_STEPS,
        "task.train_size=640",
        "trainer.max_steps=160",
        "checkpoints.every_steps=20",
        "hydra/launcher=joblib",
        "hydra.launcher.n_jobs=1",
    ]
    command = [sys.executable, "-m", "icot.train", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    sweep = subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL, start_new_session=True
    )
    deadline = time.monotonic() + 240
    second = None
    while second is None and time.monotonic() < deadline:
        time.sleep(0.05)
        found = list(tmp_path.glob("outputs/sweeps/*/seed_2/checkpoints/step-*.ckpt"))
        second = found[0] if found else None
    os.killpg(sweep.pid, signal.SIGKILL)
    sweep.wait()
    folder = only(tmp_path)
    assert states(folder) == ["finished", "unfinished", "not started"]
    first = (folder / "seed_1" / "summary.json").stat().st_mtime_ns
    again = icot("train", *arguments, cwd=tmp_path, forked=False)
    assert again.returncode == 0, again.stderr
    assert states(folder) == ["finished"] * 3
    assert (folder / "seed_1" / "summary.json").stat().st_mtime_ns == first
    assert len((folder / "seed_2" / "command.txt").read_text().splitlines()) == 2
    assert len((folder / "seed_3" / "command.txt").read_text().splitlines()) == 1
    assert "seed_1 is complete" in again.stdout


@pytest.mark.slow
def test_a_failed_run_does_not_stop_the_others(tmp_path):
    done = icot(
        "train",
        "-m",
        "+sweep=seeds",
        "model.tokenizer=missing,symbol",
        "hydra.sweep.subdir=${model.tokenizer}",
        "seed=1",
        *TWO_STEPS,
        cwd=tmp_path,
    )
    assert done.returncode == 1
    rows = {row["directory"]: row for row in read_index(only(tmp_path))}
    assert rows["symbol"]["state"] == "finished"
    assert rows["missing"]["state"] == "failed"
    assert "missing" in rows["missing"]["error"]
    assert "Traceback" not in done.stderr
    assert "1 of 2 runs finished" in done.stdout


@pytest.mark.slow
def test_submitit_on_this_machine(tmp_path):
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    done = icot(
        "train",
        "-m",
        "+sweep=seeds",
        "seed=1,2",
        *TWO_STEPS,
        "hydra/launcher=submitit_local",
        cwd=tmp_path,
        forked=False,
    )
    assert done.returncode == 0, done.stderr
    assert states(only(tmp_path)) == ["finished"] * 2


def test_slurm_jobs_are_warned_by_the_signal_that_icot_saves_at(hydra):
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    cfg = compose(
        "train", ["+sweep=seeds", "hydra/launcher=slurm"], return_hydra_config=True
    ).hydra.launcher
    assert cfg._target_.endswith("SlurmLauncher")
    assert cfg.additional_parameters.signal.startswith("USR1@")
    assert (cfg.gpus_per_node, cfg.timeout_min) == (1, 1440)


def test_the_index_is_a_plain_table(tmp_path):
    (tmp_path / "index.csv").write_text("not,an,index\n1,2,3\n")
    assert read_index(tmp_path) == []
    assert read_index(tmp_path / "nowhere") == []


def test_a_run_of_the_suite_has_a_command_of_its_own(tmp_path):
    few = ("task=parity", "schedule=icot_si", "seed=1", "trainer.max_steps=2")
    done = icot("train", "-m", "+sweep=suite", *few, *TWO_STEPS[:5], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    run = only(tmp_path) / "parity_icot_si_seed_1"
    command = (run / "command.txt").read_text().split()
    assert command[:4] == ["python", "-m", "icot.train", "recipe=suite"]
    alone = icot("train", *command[3:-1], "hydra.run.dir=alone", cwd=tmp_path)
    assert alone.returncode == 0, alone.stderr
    for name in ("predictions.jsonl", "metrics.csv"):
        assert (tmp_path / "alone" / name).read_bytes() == (run / name).read_bytes()


def test_the_suite_takes_keys_of_one_task_and_one_schedule(tmp_path):
    few = ("task=parity", "task.bits=24", "schedule=adaptive", "schedule.threshold=0.9", "seed=1")
    done = icot("train", "-m", "+sweep=suite", *few, *TWO_STEPS, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    run = yaml.safe_load((only(tmp_path) / "parity_adaptive_seed_1" / "config.yaml").read_text())
    assert (run["task"]["bits"], run["schedule"]["threshold"]) == (24, 0.9)


def test_each_runs_own_command_makes_it_alone(tmp_path):
    done = icot("train", "-m", "+sweep=seeds", "seed=5", *TWO_STEPS, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    run = only(tmp_path) / "seed_5"
    command = (run / "command.txt").read_text().split()
    assert command[:4] == ["python", "-m", "icot.train", "experiment=table2_4x4_icot_si_cpu"]
    alone = icot("train", *command[3:-1], "hydra.run.dir=alone", cwd=tmp_path)
    assert alone.returncode == 0, alone.stderr
    for name in ("predictions.jsonl", "metrics.csv"):
        assert (tmp_path / "alone" / name).read_bytes() == (run / name).read_bytes()
    with (only(tmp_path) / "index.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert row["command"].startswith("python -m icot.train -m ")
