"""A whole pipeline, as a user runs it, at the smallest size."""

import json
import os
import shlex
import shutil
import signal
import time

import pytest

from icot.commands.pipeline import devices_side_by_side
from icot.config.schema import TrainConfig
from icot.runs.pipeline_index import read_steps
from tests.chaos.harness import differences, finish, kill
from tests.chaos.pipelines import SMALL_PIPELINE, STEPS, begin
from tests.conftest import icot
from tests.running import assert_refused

OWN = """
# @package _global_
steps:
  base:
    command: train
    fixed: [schedule=no_cot]
    settings: [trainer.max_steps=2]
  judge:
    command: evaluate
    fixed: [run_dir=<base>]
    settings: [speed.examples=0]
  folder:
    command: export
    fixed: [run_dir=<base>]
"""


def pipeline(folder, *overrides):
    return icot("pipeline", *SMALL_PIPELINE, *overrides, cwd=folder, forked=False)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a finished pipeline in ``whole``."""
    folder = tmp_path_factory.mktemp("pipeline")
    code, printed = finish(begin(folder, "whole", "student.trainer.max_steps=12"))
    assert code == 0, printed
    return folder


@pytest.mark.slow
def test_each_step_is_a_run_and_a_second_start_does_nothing(place):
    rows = read_steps(place / "whole")
    assert [row["state"] for row in rows.values()] == ["finished"] * 4
    assert rows["coupled"]["needs"] == "student emulator"
    assert rows["emulator"]["result"].startswith("distance ")
    assert rows["student"]["result"].startswith("mind-reading accuracy ")
    steps = {n: json.loads((place / "whole" / n / "summary.json").read_text()) for n in STEPS}
    assert [summary["steps"] for summary in steps.values()] == [24, 12, 24, 24]
    before = {path: path.stat().st_mtime_ns for path in (place / "whole").rglob("summary.json")}
    begun = time.time_ns()
    done = pipeline(place, "student.trainer.max_steps=12", "out=whole")
    assert done.returncode == 0, done.stderr
    assert "teacher: finished" in done.stdout
    assert all(path.stat().st_mtime_ns == at < begun for path, at in before.items())
    alone = icot("train", *shlex.split(rows["teacher"]["command"])[3:], cwd=place)
    assert "is complete" in alone.stdout


@pytest.mark.slow
def test_other_settings_for_a_finished_step_that_was_used_are_refused(place):
    done = pipeline(place, "out=whole", "student.trainer.max_steps=13")
    assert_refused(done, "the step student has finished with other settings, and coupled used it")


@pytest.mark.slow
def test_a_failed_step_ends_the_pipeline_with_its_name_and_log(place):
    teacher = shutil.copytree(place / "whole" / "teacher", place / "failing" / "teacher")
    (teacher / "checkpoints" / "last.ckpt").write_bytes(b"torn")
    done = pipeline(place, "out=failing")
    assert_refused(done, "the step student has failed: ")
    assert "failing/teacher/checkpoints/last.ckpt" in done.stderr
    assert "(exit code 2)" in done.stderr
    assert "Its log: failing/student.log" in done.stderr
    states = {name: row["state"] for name, row in read_steps(place / "failing").items()}
    assert states == {
        "teacher": "finished",
        "student": "failed",
        "emulator": "not started",
        "coupled": "not started",
    }


@pytest.mark.slow
def test_ended_by_a_signal_and_killed_side_by_side(place):
    """A signal lets the step save; a kill of two steps at once loses nothing either."""
    settings = ("student.trainer.max_steps=12", "parallel=2")
    killed = place / "killed"

    def wait_for(process, *names):
        deadline = time.monotonic() + 200
        while time.monotonic() < deadline and process.poll() is None:
            if all(list((killed / n).glob("checkpoints/step-*.ckpt")) for n in names):
                return
            time.sleep(0.02)
        raise AssertionError(finish(process)[1])

    process = begin(place, "killed", *settings)
    wait_for(process, "teacher")
    os.kill(process.pid, signal.SIGTERM)
    assert finish(process)[0] == 128 + signal.SIGTERM
    assert "SIGTERM: saving after this batch" in (killed / "teacher.log").read_text()
    assert read_steps(killed)["teacher"]["state"] == "unfinished"
    process = begin(place, "killed", *settings)
    wait_for(process, "student", "emulator")
    kill(process)
    finish(process)
    assert read_steps(killed)["coupled"]["state"] == "not started"
    code, printed = finish(begin(place, "killed", *settings))
    assert code == 0, printed
    assert [m for n in STEPS for m in differences(place / "whole" / n, killed / n)] == []


@pytest.mark.slow
def test_a_pipeline_of_ones_own_with_other_commands(tmp_path):
    (tmp_path / "conf" / "pipeline").mkdir(parents=True)
    (tmp_path / "conf" / "pipeline" / "mine.yaml").write_text(OWN)
    words = ("+pipeline=mine", *SMALL_PIPELINE[1:-3], "examples=5", "out=p", "folder.examples=4")
    done = icot("pipeline", "--config-dir", "conf", *words, cwd=tmp_path, forked=False)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "p" / "judge" / "evaluation.json").read_text())["n"] == 5
    assert (tmp_path / "p" / "folder" / "model.safetensors").is_file()
    assert {row["state"] for row in read_steps(tmp_path / "p").values()} == {"finished"}


SMALL_SCOTD = (
    "+pipeline=scotd",
    *SMALL_PIPELINE[1:],
    "out=p",
    "corpus.samples=2",
    "corpus.examples=60",
    "corpus.max_truncated=1",
    "student.task.labels=teacher",
    "student.task.selection=valid",
    "vote.predictor.n=3",
)


@pytest.mark.slow
def test_symbolic_distillation_from_the_teacher_to_the_report(tmp_path):
    done = icot("pipeline", *SMALL_SCOTD, cwd=tmp_path, forked=False)
    assert done.returncode == 0, done.stderr
    rows = read_steps(tmp_path / "p")
    assert {row["state"] for row in rows.values()} == {"finished"}
    assert rows["report"]["needs"] == "teacher_run student greedy vote"
    assert rows["vote"]["result"].startswith("accuracy ")
    report = (tmp_path / "p" / "report" / "report.md").read_text()
    assert "majority of 3" in report
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "p").rglob("*.json")}
    again = icot("pipeline", *SMALL_SCOTD, cwd=tmp_path, forked=False)
    assert again.stdout.count(": finished") == 6
    assert {p: p.stat().st_mtime_ns for p in before} == before


@pytest.mark.parametrize(
    "teacher",
    [
        ("model", "name_or_path=gpt2"),
        ("endpoint", "base_url=http://127.0.0.1:1", "model=m"),
    ],
)
def test_symbolic_distillation_from_a_teacher_without_a_run(tmp_path, teacher):
    kind, *keys = teacher
    words = [f"corpus.teacher={kind}", *(f"corpus.teacher.{key}" for key in keys)]
    plan = ("+pipeline=scotd_any_teacher", *words, "corpus.task=mult2", "out=p", "dry_run=true")
    done = icot("pipeline", *plan, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"icot.sample teacher={kind} teacher.{keys[0]}" in done.stdout
    assert "icot.train task=rationales task.samples=p/corpus schedule=explicit" in done.stdout


def test_jobs_of_commands_that_do_not_train(tmp_path):
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    slurm = ("hydra/launcher=slurm", "hydra.launcher.partition=gpu", "dry_run=true")
    done = icot("pipeline", *SMALL_SCOTD, *slurm, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    jobs = [line for line in done.stdout.splitlines() if line.startswith("# job ")]
    after = [job.split()[2].partition("dependency=afterok:")[2] for job in jobs]
    assert after == [
        "",
        "teacher_run",
        "corpus",
        "student",
        "student",
        "teacher_run:student:greedy:vote",
    ]
    assert "python -m icot.sample teacher=run teacher.run_dir=p/teacher_run" in done.stdout
    assert "python -m icot.report 'runs=[p/teacher_run,p/student,p/greedy,p/vote]'" in done.stdout


def test_jobs_of_slurm_wait_for_each_other(tmp_path):
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    slurm = ("hydra/launcher=slurm", "hydra.launcher.partition=gpu", "dry_run=true", "out=p")
    done = icot("pipeline", *SMALL_PIPELINE, *slurm, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    jobs = [line for line in lines if line.startswith("# job ")]
    assert ["dependency" in job for job in jobs] == [False, True, True, True]
    assert "dependency=afterok:student:emulator" in jobs[3]
    assert all("partition=gpu" in job and "USR1@" in job for job in jobs)
    commands = [line for line in lines if line.startswith("python -m icot.train ")]
    assert "method.student=p/student method.emulator=p/emulator" in commands[3]
    assert not (tmp_path / "p").exists()


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["trainer.max_step=3"], "there is no trainer.max_step; did you mean trainer.max_steps?"),
        (["student.method.detla=2"], "student: method.detla=2: there is no method.detla"),
        (["student.schedule=icot_si"], "student: method=mind_reading trains on questions and"),
        (["model.compile=default"], "emulator: model.compile: an emulator is trained without"),
        (["teacher.schedule=icot_si"], "student, emulator: method.teacher=teacher: a teacher is a"),
        (["student.task=mult3"], "trained with task.digits=2, this run has 3"),
        (["coupled.model.config.n_layer=2"], "its model has n_layer=3, this one 2"),
        (["model.config.n_layer=1"], "the states of a teacher need at least two layers"),
        (["emulator.method.component_weight=1"], "component for each token: set method.mixture_"),
        (["coupled.method.mixture_size=2"], "method.mixture_size=2: the emulator emulator has 1"),
        (["student.schedule=no_cot_official"], "trained with 1 separators, this run has 2"),
        (["hydra/launcher=joblib"], "parallel=2 runs two steps side by side"),
        (["-m"], "a pipeline is one at a time"),
    ],
)
def test_mistakes_are_told_before_any_work(overrides, said, tmp_path):
    assert_refused(icot("pipeline", *SMALL_PIPELINE, *overrides, cwd=tmp_path), said)
    assert not (tmp_path / "outputs").exists()


def test_a_step_per_gpu_where_each_step_uses_one(monkeypatch):
    trainer = TrainConfig.model_fields["trainer"].annotation

    def config(devices):
        return {"one": TrainConfig.model_construct(trainer=trainer(devices=devices))}

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert devices_side_by_side(None, 0, config(1)) == [None]
    assert devices_side_by_side(2, 0, config(1)) == [None, None]
    assert devices_side_by_side(None, 2, config(1)) == ["0", "1"]
    assert devices_side_by_side(None, 2, config(2)) == [None]
    assert devices_side_by_side(1, 2, config(1)) == [None]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    assert devices_side_by_side(3, 2, config(1)) == ["3", "5", "3"]
