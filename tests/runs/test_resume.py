"""What resume= accepts and refuses; a longer run equals one that was long from the start."""

import csv
import json
import shutil

import pytest
import yaml

from tests.chaos.harness import differences, make_overrides
from tests.conftest import icot
from tests.small import SMALL

TRAINED = [*make_overrides(), "trainer.max_epochs=1"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("resume")
    done = icot("train", *TRAINED, "hydra.run.dir=run", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "run"


@pytest.fixture
def copy(run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    shutil.copytree(run.parent / "cache", tmp_path / "cache")
    return tmp_path


def test_a_longer_run_equals_one_that_was_long_from_the_start(copy):
    more = ["trainer.max_epochs=3", "paths.cache_dir=cache"]
    done = icot("train", "resume=run", *more, cwd=copy)
    assert done.returncode == 0, done.stderr
    whole = icot("train", *TRAINED, *more, "hydra.run.dir=whole", cwd=copy)
    assert whole.returncode == 0, whole.stderr
    assert differences(copy / "whole", copy / "run") == []
    config = yaml.safe_load((copy / "run" / "config.yaml").read_text())
    assert config["trainer"]["max_epochs"] == 3
    assert (
        (copy / "run" / "command.txt")
        .read_text()
        .splitlines()[1]
        .startswith("python -m icot.train resume=run trainer.max_epochs=3")
    )


def test_an_end_that_was_not_written_down_is_written_as_it_would_have_been(tmp_path):
    words = (*SMALL, "trainer.max_steps=12", "checkpoints.every_steps=3", "hydra.run.dir=run")
    done = icot("train", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    whole = shutil.copytree(tmp_path / "run", tmp_path / "whole")
    for name in ("summary.json", "stages.csv"):
        (tmp_path / "run" / name).unlink()
    done = icot("train", "resume=run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert differences(whole, tmp_path / "run") == []


def test_what_would_change_the_result_is_refused_by_name(copy):
    before = {p: p.read_bytes() for p in (copy / "run").rglob("*.ckpt")}
    changes = {
        "schedule.tokens_per_epoch": ("4.0", "8.0"),
        "schedule.side": ("left", "right"),
        "task": ("mult2", "mult3"),
        "optimizer.lr": ("5e-05", "1.0"),
        "optimizer": ("muon", "adamw"),
        "trainer.devices": ("1", "2"),
        "seed": ("3456", "0"),
        "task.chain": ("long", "tree"),
    }
    config = yaml.safe_load((copy / "run" / "config.yaml").read_text())
    changes["optimizer.lr"] = (str(float(config["optimizer"]["lr"])), "1.0")
    overrides = [f"{key}={new}" for key, (_, new) in changes.items()]
    done = icot("train", "resume=run", *overrides, cwd=copy)
    assert done.returncode == 2, done.stdout + done.stderr
    for key, (old, new) in changes.items():
        assert f"{key} is {old} there and {new} here" in done.stderr
    assert "8 mistakes" in done.stderr
    for override, said in (
        ("trainer.max_steps=3", "a shorter one is not"),
        ("hydra.run.dir=elsewhere", "leave out hydra.run.dir"),
    ):
        done = icot("train", "resume=run", override, cwd=copy)
        assert done.returncode == 2
        assert said in done.stderr
    assert before == {p: p.read_bytes() for p in (copy / "run").rglob("*.ckpt")}
    assert not (copy / "elsewhere").exists()


def test_resume_auto_refuses_another_command_and_takes_the_same(copy):
    other = icot("train", *TRAINED, "optimizer.lr=1", "resume=auto", "hydra.run.dir=run", cwd=copy)
    assert other.returncode == 2
    assert "optimizer.lr is" in other.stderr
    same = icot("train", *TRAINED, "resume=auto", "hydra.run.dir=run", cwd=copy)
    assert same.returncode == 0, same.stderr
    assert "is complete" in same.stdout


def test_the_run_in_output_dir_is_the_one_that_is_compared(copy):
    place = ["paths.output_dir=run", "resume=auto", "trainer.max_epochs=2"]
    done = icot("train", *TRAINED, "optimizer.lr=1", *place, cwd=copy)
    assert done.returncode == 2
    assert "optimizer.lr is" in done.stderr


def test_resume_auto_without_a_directory_finds_its_own_again(copy):
    for said in ("Run directory", "is complete"):
        done = icot("train", *TRAINED, "resume=auto", cwd=copy)
        assert done.returncode == 0, done.stderr
        assert said in done.stdout
    assert len(list((copy / "outputs").iterdir())) == 1


def test_precision_auto_stays_what_it_was_where_the_run_began(tmp_path):
    begun = [
        *make_overrides(),
        "trainer=auto",
        "trainer.max_epochs=-1",
        "hydra.run.dir=run",
        "resume=auto",
    ]
    for steps in ("2", "4"):
        command = [*begun, f"trainer.max_steps={steps}"]
        done = icot("train", *command, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    environment = json.loads((tmp_path / "run" / "environment.json").read_text())
    other = "32-true" if environment["precision"] != "32-true" else "bf16-mixed"
    done = icot("train", *begun, "trainer.max_steps=8", f"trainer.precision={other}", cwd=tmp_path)
    assert done.returncode == 2
    assert f"trainer.precision is {environment['precision']} there and {other} here" in done.stderr
    assert [start["step"] for start in environment["resumed"]] == [2]


def test_a_sweep_that_is_started_again_goes_on(tmp_path):
    sweep = ["-m", *make_overrides(), "trainer.max_epochs=-1", "trainer.max_steps=2", "seed=1,2"]
    for said in ("Run directory", "is complete"):
        done = icot("train", *sweep, "resume=auto", "hydra.sweep.dir=sweep", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count(said) == 2
    one = icot("train", *sweep, "resume=sweep/0", cwd=tmp_path)
    assert one.returncode == 2
    assert "resumes one run" in one.stderr
    assert not (tmp_path / "outputs").exists()
    # Without hydra.sweep.dir= the program names the directory.
    done = icot("train", *sweep, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "outputs" / "sweeps").glob("*_mult2_tiny_icot_si/multirun.yaml"))


def test_training_ends_some_updates_after_the_last_removal(tmp_path):
    run = [
        *make_overrides(),
        "schedule.tokens_per_epoch=16",
        "trainer.max_epochs=9",
        "trainer.finish_steps=5",
    ]
    run += ["trainer.log_every_n_steps=1", "optimizer.decay_steps=4"]
    done = icot("train", *run, "trainer.max_steps=100", "hydra.run.dir=whole", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    # 13 batches an epoch: 16 of them remove 16 tokens, and the chain's 8 are gone after 7.
    assert json.loads((tmp_path / "whole" / "summary.json").read_text())["steps"] == 7 + 5
    part = [*run, "resume=auto", "hydra.run.dir=part"]
    for steps, said in ((10, "10 steps"), (100, "12 steps"), (100, "is complete")):
        done = icot("train", *part, f"trainer.max_steps={steps}", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        if said == "is complete":
            assert said in done.stdout
        else:
            found = json.loads((tmp_path / "part" / "summary.json").read_text())["steps"]
            assert f"{found} steps" == said


def test_stopped_in_its_last_epoch_and_with_other_numbers_of_workers_a_run_is_the_same(tmp_path):
    run = [*make_overrides(), "trainer.max_epochs=2"]  # of 13 batches
    for parts in ([(-1, 1)], [(7, 2), (17, 0), (-1, 3)]):
        folder = f"hydra.run.dir=in_{len(parts)}"
        for steps, workers in parts:
            more = [f"trainer.max_steps={steps}", f"data.num_workers={workers}", "resume=auto"]
            done = icot("train", *run, *more, folder, cwd=tmp_path)
            assert done.returncode == 0, done.stderr
    assert differences(tmp_path / "in_1", tmp_path / "in_3") == []


def test_a_callback_that_the_run_did_not_have_is_one_mistake(copy):
    callback = "+callbacks.x._target_=lightning.pytorch.callbacks.LearningRateMonitor"
    done = icot("train", "resume=run", callback, cwd=copy)
    assert done.returncode == 2
    assert "1 mistake" in done.stderr
    assert "callbacks.x._target_ is None there and lightning.pytorch.callbacks" in done.stderr


def test_a_run_with_empty_batches_is_resumed_exactly(tmp_path):
    """The schedule's average, its batches without an accuracy, and the metrics without a loss."""
    lines = [f"{a}||{' + '.join('1' * (1 + a % 12))} #### {a}\n" for a in range(50)]
    for split in ("train", "valid"):
        (tmp_path / f"{split}.txt").write_text("".join(lines))
    run = [
        *(text for text in SMALL if not text.startswith("task")),
        "task=text",
        "task.data_dir=.",
        "task.test_file=null",
        "model.config.resid_pdrop=0.1",
        "schedule.patience=8",
        "data.batch_size=2",
        "data.max_train_tokens=12",
        "trainer.accumulate_grad_batches=2",
        "trainer.log_every_n_steps=1",
        "trainer.max_epochs=1",
        "paths.cache_dir=cache",
        "resume=auto",
    ]
    for folder, parts in (("whole", [-1]), ("parts", [2, 5, -1])):
        for steps in parts:
            more = [f"trainer.max_steps={steps}", f"hydra.run.dir={folder}"]
            done = icot("train", *run, *more, cwd=tmp_path)
            assert done.returncode == 0, done.stderr
    assert differences(tmp_path / "whole", tmp_path / "parts") == []
    with (tmp_path / "whole" / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["cot/stage"]]
    assert 0 < sum(row["train/loss"] == "" for row in rows) < len(rows)


def test_a_finished_run_made_longer_goes_on_at_the_rate_of_its_new_length(tmp_path):
    callback = "lightning.pytorch.callbacks.LearningRateMonitor"
    run = [*make_overrides(), "optimizer=adamw", "optimizer.lr=0.5", "optimizer.decay_steps=2"]
    run += [f"+callbacks.rate._target_={callback}", "trainer.max_epochs=9"]
    for steps in (4, 8):
        more = [*run, "resume=auto", f"trainer.max_steps={steps}", "hydra.run.dir=run"]
        done = icot("train", *more, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    with (tmp_path / "run" / "metrics.csv").open() as file:
        rates = [float(row["lr-AdamW"]) for row in csv.DictReader(file) if row["lr-AdamW"]]
    assert rates == [0.5, 0.5, 0.5, 0.25, 0.5, 0.5, 0.5, 0.25]


def test_a_run_in_the_way_is_left_alone(copy):
    before = {p: p.read_bytes() for p in (copy / "run").rglob("*") if p.is_file()}
    done = icot("train", *TRAINED, "hydra.run.dir=run", cwd=copy)
    assert done.returncode == 2
    assert "Resume it with resume=run" in done.stderr
    assert before == {p: p.read_bytes() for p in (copy / "run").rglob("*") if p.is_file()}


@pytest.mark.parametrize("where", ["nowhere", "cache"])
def test_what_is_no_run_directory_is_refused(copy, where):
    done = icot("train", f"resume={where}", cwd=copy)
    assert done.returncode == 2
    assert "run directory" in done.stderr
    assert not (copy / "outputs").exists()


def test_the_run_keeps_its_own_name_and_its_wandb_id(tmp_path):
    pytest.importorskip("wandb")
    begun = [*make_overrides(), "trainer.max_epochs=-1", "logger=wandb", "hydra.run.dir=run"]
    first = icot("train", *begun, "trainer.max_steps=3", cwd=tmp_path, WANDB_MODE="offline")
    assert first.returncode == 0, first.stderr
    done = icot("train", "resume=run", "trainer.max_steps=6", cwd=tmp_path, WANDB_MODE="offline")
    assert done.returncode == 0, done.stderr
    name = (tmp_path / "run" / "wandb_id.txt").read_text().strip()
    runs = [p.name for p in (tmp_path / "run" / "wandb").glob("offline-run-*")]
    assert len(runs) == 2
    assert all(run.endswith(name) for run in runs)
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert (summary["task"], summary["schedule"], summary["steps"]) == ("mult2", "icot_si", 6)


def test_other_data_are_refused(tmp_path):
    for name in ("train", "valid"):
        (tmp_path / f"{name}.txt").write_text("1 2||3 #### 3\n2 2||4 #### 4\n" * 20)
    text = ["task=text", "task.data_dir=.", "task.test_file=null", "optimizer.decay_steps=0"]
    small = [o for o in make_overrides() if o.startswith("model.")]
    first = icot("train", *text, *small, "trainer.max_steps=2", "hydra.run.dir=run", cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    (tmp_path / "train.txt").write_text("1 2||3 #### 3\n2 2||4 #### 5\n" * 20)
    done = icot("train", "resume=run", "trainer.max_steps=4", cwd=tmp_path)
    assert done.returncode == 2
    assert "the train split of task text differs from the one" in done.stderr
