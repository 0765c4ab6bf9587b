"""docs/extending.md: what it shows is written into a package outside the clone, and run."""

import csv
import json
import re
import shlex

import pytest
import torch

from tests.conftest import REPOSITORY, icot
from tests.running import assert_refused
from tests.small import SMALL

PAGE = (REPOSITORY / "docs" / "extending.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"^`(mine/\S+)`\n\n```\w+\n(.*?)```", PAGE, flags=re.DOTALL | re.MULTILINE))
COMMANDS = re.findall(r"^python -m icot\.(\w+) (.*)$", PAGE, flags=re.MULTILINE)
SMALLER = [o for o in SMALL if o.startswith(("model.", "data.", "trainer", "optimizer."))]
SMALLER += ["paths.cache_dir=cache", "trainer.max_steps=20", "checkpoints.every_stage=true"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with the package ``mine``, in which the documented commands have been run."""
    folder = tmp_path_factory.mktemp("outside")
    for name, content in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content, encoding="utf-8")
    (folder / "mine" / "__init__.py").touch()
    (train, arguments), *_ = COMMANDS
    done = icot(train, *shlex.split(arguments), *SMALLER, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_the_page_shows_one_of_each():
    assert set(FILES) == {
        *("mine/tasks.py", "mine/schedules.py", "mine/methods.py"),
        *("mine/conf/task/reverse.yaml", "mine/conf/schedule/halving.yaml"),
        "mine/conf/method/guessing.yaml",
    }


def test_it_trains_by_its_own_schedule_and_method(place):
    run = place / "outputs" / "mine"
    with (run / "stages.csv").open() as file:
        rows = list(csv.DictReader(file))
    # The chain a + b + c has five tokens, of which half of what is left goes after three batches.
    assert [int(row["tokens_removed"]) for row in rows] == [0, 3, 4, 5]
    assert [int(row["batches"]) for row in rows][:3] == [3, 3, 3]
    header = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["icot"]
    assert header["method"] == "guessing"
    config = (run / "config.yaml").read_text()
    for text in ("_target_: mine.tasks.Reverse", "_target_: mine.schedules.Halving", "share: 0.25"):
        assert text in config


def test_it_is_resumed_evaluated_exported_and_reported(place):
    for name, arguments in COMMANDS[1:]:
        done = icot(name, *shlex.split(arguments), cwd=place)
        assert done.returncode == 0, f"{name} {arguments}: {done.stderr}"
    summary = json.loads((place / "outputs" / "mine" / "summary.json").read_text())
    assert (summary["steps"], summary["task"]) == (40, "reverse")
    assert json.loads((place / "outputs" / "mine" / "evaluation.json").read_text())["n"] == 20
    assert (place / "my-model" / "model.safetensors").is_file()
    card = (place / "my-model" / "README.md").read_text()
    assert "trained by stepwise internalization with some whole chains." in card
    assert "reverse" in (place / "outputs" / "report" / "report.md").read_text()


def test_the_task_joins_the_suite(place):
    """The documented line, with one seed and few batches."""
    (arguments,) = re.findall(r"`python -m icot\.train (--config-dir .*suite .*)`", PAGE)
    folder = "hydra.sweep.dir=outputs/suite"
    smaller = [o for o in SMALLER if "max_steps" not in o] + ["trainer.max_steps=6"]
    done = icot("train", *shlex.split(arguments), *smaller, "seed=1", folder, cwd=place)
    assert done.returncode == 0, done.stderr
    with (place / "outputs" / "suite" / "index.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["state"] for row in rows} == {"finished"}
    schedules = ("explicit", "no_cot", "icot_si", "adaptive")
    assert {row["directory"] for row in rows} == {f"reverse_{s}_seed_1" for s in schedules}
    report = icot("report", "outputs/suite", cwd=place)
    assert report.returncode == 0, report.stderr


def test_a_teachers_run_may_name_the_packages_that_its_students_command_names(place):
    task = ["--config-dir", "mine/conf", "task=reverse", *SMALLER, "model.config.n_layer=2"]
    short = ["trainer.max_steps=2", "hydra.run.dir=outputs/TEACHER"]
    done = icot("train", *task, "schedule=explicit", *short, cwd=place)
    assert done.returncode == 0, done.stderr
    student = ["method=mind_reading", "method.teacher=outputs/TEACHER", "trainer.max_steps=2"]
    done = icot("train", *task, *student, "hydra.run.dir=outputs/STUDENT", cwd=place)
    assert done.returncode == 0, done.stderr
    evaluate = ["evaluate", "run_dir=outputs/STUDENT"]
    assert_refused(icot(*evaluate, cwd=place), "trust=[mine]")
    done = icot(*evaluate, "trust=[mine]", cwd=place)
    assert done.returncode == 0, done.stderr


def test_a_run_directory_runs_no_code_of_a_package_that_is_not_trusted(place):
    evil = place / "mine" / "tasks.py"
    content = evil.read_text()
    evil.write_text("open('was_run', 'w').close()\n" + content)
    for command in (["train", "resume=outputs/mine"], ["evaluate", "run_dir=outputs/mine"]):
        done = icot(*command, cwd=place)
        assert done.returncode == 2
        assert "trust=[mine]" in done.stderr
        assert not (place / "was_run").exists()
    evil.write_text(content)
    with_folder = ["--config-dir", "mine/conf", "task=reverse", "schedule=halving"]
    with_folder += ["method=guessing"]
    done = icot("train", *with_folder, "resume=outputs/mine", "trainer.max_steps=45", cwd=place)
    assert done.returncode == 0, done.stderr  # the command line itself names the classes


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["task.lenght=3"], "did you mean task.length?"),
        (["task.length=1"], "length=1 must be at least 2"),
        (["+task.depth=2"], "depth"),
        (["task._target_=mine.tasks.Nothing"], "mine.tasks.Nothing"),
        (["task._target_=mine.schedules.Halving"], "is not a subclass of icot.Task"),
        (["method=guessing", "method.share=2"], "method.share=2 must be at most 1"),
        (["method=guessing", "+method.other=2"], "there is no method.other"),
        (["schedule=halving", "schedule.smoothing_lambda=0"], "above 0"),
    ],
)
def test_mistakes_in_ones_own_options_are_messages(place, overrides, said):
    done = icot(
        "train", "--config-dir", "mine/conf", "task=reverse", *SMALLER, *overrides,
        "hydra.run.dir=outputs/wrong", cwd=place,
    )  # fmt: skip
    assert_refused(done, said)
