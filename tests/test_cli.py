"""The command line before any command: light, and every mistake at once."""

import subprocess
import sys

import pytest

from icot.config.entry_points import SCHEMAS
from tests.conftest import REPOSITORY, icot
from tests.running import assert_refused

HEAVY = {"torch", "lightning", "transformers", "tokenizers", "matplotlib", "scipy"}


def imported_by(arguments: list[str], cwd) -> set[str]:
    """The libraries that a command has imported when it ends."""
    code = (
        "import sys, runpy, atexit\n"
        "names = lambda: {m.split('.')[0] for m in sys.modules}\n"
        "atexit.register(lambda: print('MODULES', *names()))\n"
        f"sys.argv = {arguments!r}\n"
        f"runpy.run_module('icot.' + sys.argv[0], run_name='__main__', alter_sys=True)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=cwd,
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(REPOSITORY), "PATH": ""},
    )
    line = next(line for line in done.stdout.splitlines() if line.startswith("MODULES"))
    return set(line.split()[1:])


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "taks=mult4"],
        ["train", "resume=typo"],
        ["train", "schedule=no_cot", "schedule.tokens_per_epoch=4"],
        ["train", "--help"],
        ["train", "--cfg", "job"],
        ["evaluate", "run_dir=nope"],
        ["evaluate", "checkpoint=nope"],
        ["export", "run_dir=nope", "out=x"],
        ["report", "stage=x"],
    ],
)
def test_a_mistake_is_answered_without_a_heavy_library(arguments, tmp_path):
    assert imported_by(arguments, tmp_path) & HEAVY == set()
    assert list(tmp_path.iterdir()) == []


def test_help_lists_groups_options_and_the_configuration(tmp_path):
    done = icot("train", "--help", cwd=tmp_path)
    assert done.returncode == 0
    for text in (
        "schedule: adaptive, dial, explicit",
        "method: coupled, emulator, icot_si, mind_reading",
        "batch_size: 64",
        "+sweep=",
    ):
        assert text in done.stdout


@pytest.mark.parametrize("command", [name for name in SCHEMAS if name != "train"])
def test_every_command_has_help(command, tmp_path):
    done = icot(command, "--help", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"python -m icot.{command}" in done.stdout


@pytest.mark.parametrize("overrides", [["out=c"], ["out=c", "teacher.run_dir=x"], ["--cfg", "job"]])
def test_a_teacher_must_be_chosen(overrides, tmp_path):
    done = icot("sample", *overrides, cwd=tmp_path)
    assert_refused(
        done, "1 mistake in the configuration:\n  - teacher must be set: choose one of run"
    )


def test_the_console_script_is_the_same_command(tmp_path):
    script = "import sys; from icot.cli import main; sys.argv[0] = 'icot'; main()"

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", script, *arguments], cwd=tmp_path, capture_output=True, text=True
        )

    listed = run()
    assert listed.returncode == 0
    assert all(name in listed.stdout for name in SCHEMAS)
    assert run("trian").returncode == 2
    mistake = run("train", "taks=mult4")
    assert mistake.returncode == 2
    assert "train: 1 mistake" in mistake.stderr
    assert "did you mean task?" in mistake.stderr


def test_configuration_files_of_ones_own(tmp_path):
    (tmp_path / "mine" / "model").mkdir(parents=True)
    (tmp_path / "mine" / "model" / "small.yaml").write_text(
        "name_or_path: gpt2\npretrained: true\n"
    )
    for place in (["--config-dir", "mine"], ["hydra.searchpath=[file://mine]"]):
        done = icot("train", *place, "model=small", "--cfg", "job", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert "pretrained: true" in done.stdout
        done = icot("train", *place, "model=smaal", cwd=tmp_path)
        assert done.returncode == 2
        assert "did you mean small?" in done.stderr
    done = icot("train", "--config-dir", "nowhere", "model=small", cwd=tmp_path)
    assert done.returncode == 2
    assert "nowhere" in done.stderr


# Values that are of the right type and would end in a traceback, or in a run that is none.
WRONG = {
    "trainer.strategy=fdsp": "did you mean fsdp? choose one of auto, ddp, ",
    "trainer.accelerator=cuda0": "did you mean cuda? choose one of auto, cpu, ",
    "trainer.devices=0": "must be a number of devices, a list of different device numbers",
    "trainer.max_time=abc": "must be above 0, as DD:HH:MM:SS",
    "trainer.gradient_clip_val=-1": "must be at least 0",
    "optimizer.betas=[0.9,1]": "1 must be below 1",
    "optimizer.lr=inf": "must be a finite number",
    "optimizer.weight_decay=nan": "must be a finite number",
    "seed=-1": "must be at least 0",
    "task.seed=-1": "must be at least 0",
    "collapse.share=7": "must be at most 1",
    "schedule.stops=[1,null]": "null must be an integer",
    "schedule.decay=1": "must be below 1",
    "model.attn_implementation=nope": "must be one of eager, sdpa, ",
    "model.config.n_layer=0": "must be an integer, at least 1",
    "model.config.n_head=null": "must be an integer, at least 1",
    "+callbacks.x._target_=nope": "must be a class, as package.module.Class",
    "+callbacks.y._target_=nope.Nope": "there is no package nope",
}


def test_all_wrong_values_are_told_at_once_before_any_work(tmp_path):
    done = icot("train", *WRONG, "+callbacks.z=3", cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert f"{len(WRONG) + 1} mistakes" in done.stderr
    told = [line.removeprefix("  - ") for line in done.stderr.splitlines()[1:]]
    for given, said in WRONG.items():
        (line,) = [line for line in told if line.startswith(given.lstrip("+"))]
        assert said in line
    assert "callbacks.z must be a group of keys with _target_, the name of a class" in told
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("command", "arguments", "said"),
    [
        ("evaluate", ["run_dir="], "run_dir= is empty"),
        ("export", ["run_dir=x", "out="], "out= is empty"),
        ("prepare", ["seed=-1"], "seed=-1 must be at least 0"),
        ("report", ["runs=[]"], "runs=[] must have at least 1 values"),
        ("benchmark", ["what=start", "out=/dev/null"], "/dev/null: cannot be written"),
        ("prepare", ["out=/dev/null"], "/dev/null: cannot be written"),
    ],
)
def test_values_of_other_commands(command, arguments, said, tmp_path):
    done = icot(command, *arguments, cwd=tmp_path)
    assert_refused(done, said)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["task=null"], "choose one of"),
        (["callbacks=null"], "choose one of"),
        (["experiment=null"], "leave experiment out"),
        (["paths=null"], "must be a group of keys"),
        (["++resume="], "resume= is empty"),
        (["hydra.run.dir=null"], "hydra.run.dir=null"),
        (["paths.output_dir="], "names no directory"),
        (["model=[]"], "model=[]: choose one of"),
        (["hydra=3"], "hydra=3: "),
        (["-m", "hydra.launcher=3", "seed=1,2"], "hydra.launcher must name a class"),
        (["-m", "hydra.sweep.dir=/dev/null/x", "seed=1,2"], "/dev/null/x: cannot be written"),
        (["~schedule"], "choose one of"),
        (["schedule.kind=[a]"], "choose one of linear"),
        (["task._target_=[a]"], "task"),
        (["experiment=figure3_full,figure4_seed1"], "add -m"),
        (["resume="], "resume= is empty"),
        (["+resume=nowhere"], "run directory nowhere"),
        (["-m", "task=glob(nothing*)", "schedule.side=up"], "there is no task of that name"),
        (["--help", "task=nope"], "nope"),
    ],
)
def test_odd_words_are_answered_with_a_message(arguments, said, tmp_path):
    done = icot("train", *arguments, cwd=tmp_path)
    assert_refused(done, said)
    assert list(tmp_path.iterdir()) == []
