"""A run directory from elsewhere: it runs no code and writes nowhere else."""

import json
import shutil

import pytest

from icot.config.kept import read_config
from icot.errors import RunError
from icot.runs.kept_run import KeptRun
from tests.conftest import icot


def test_what_a_run_writes_is_read(small_run):
    cfg = read_config(small_run / "config.yaml")
    assert cfg.task.digits == 2
    assert cfg.schedule.tokens_per_epoch == 4


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("_target_: icot.tasks.multiplication.Multiplication", "_target_: os.mkdir", "os.mkdir"),
        ("chain: long", "chain: ${oc.env:HOME}", "is an interpolation"),
        ("chain: long", "chain: {_target_: os.mkdir, path: x}", "chain"),
        ("digits: 2", "digits: two", "digits"),
        ("digits: 2", "digits: !!python/object/apply:os.mkdir [x]", "cannot be read"),
        ("task:", "tusk:", "lacks task"),
        (
            "attn_implementation: eager",
            "attn_implementation: someone/kernel",
            r"someone/kernel', code from the hub.*trust=\[someone\]",
        ),
    ],
)
def test_a_configuration_that_asks_for_more_than_values_is_refused(
    small_run, tmp_path, monkeypatch, old, new, said
):
    monkeypatch.chdir(tmp_path)
    text = (small_run / "config.yaml").read_text()
    assert old in text
    (tmp_path / "config.yaml").write_text(text.replace(old, new, 1))
    with pytest.raises(RunError, match=said):
        _ = KeptRun(tmp_path).cfg
    assert {p.name for p in tmp_path.iterdir()} == {"config.yaml"}


def test_what_only_matters_in_training_is_not_judged(small_run, tmp_path):
    """A run of another version stays readable."""
    text = (small_run / "config.yaml").read_text()
    for old, new in (
        ("  strategy: auto", "  strategy: of_another_version"),
        ("  gradient_clip_val: 1.0", "  gradient_clip_val: -1.0"),
    ):
        assert old in text
        text = text.replace(old, new, 1)
    (tmp_path / "config.yaml").write_text(text)
    assert read_config(tmp_path / "config.yaml").trainer.strategy == "of_another_version"


def test_a_task_of_an_earlier_class_is_one_of_its_successor(small_run, tmp_path):
    text = (small_run / "config.yaml").read_text()
    _, rest = text.split("method:", 1)
    task = "task:\n  _target_: icot.tasks.gsm8k.HubGSM8K\n  dataset: x\n  held_out: 5\n"
    (tmp_path / "config.yaml").write_text(f"{task}method:{rest}")
    task = read_config(tmp_path / "config.yaml").task
    assert (task.target, task.format) == ("icot.tasks.records.Records", "gsm8k")
    assert (task.dataset, task.held_out) == ("x", 5)


def test_keys_of_another_version_are_named_and_ignored(small_run, tmp_path, caplog):
    text = (small_run / "config.yaml").read_text()
    text = text.replace("digits: 2", "digits: 2\n  other: {_target_: os.mkdir}")
    (tmp_path / "config.yaml").write_text(text + "\nmore:\n  x: 1\n")
    cfg = read_config(tmp_path / "config.yaml")
    assert cfg == read_config(small_run / "config.yaml")
    assert "task.other is a key of another version" in caplog.text
    assert "config.yaml: more is a key of another version" in caplog.text


def test_resuming_runs_no_callback_that_only_the_directory_names(small_run, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(small_run, run)
    config = run / "config.yaml"
    evil = "callbacks:\n  x:\n    _target_: os.mkdir\n    path: was_run"
    config.write_text(config.read_text().replace("callbacks: {}", evil))
    assert "was_run" in config.read_text()
    done = icot("train", "resume=run", "trainer.max_epochs=9", cwd=tmp_path)
    assert done.returncode == 2
    assert "cannot run code" in done.stderr
    assert not list(tmp_path.rglob("was_run"))


def test_resuming_does_not_write_through_links_or_where_the_directory_says(small_run, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(small_run, run)
    (tmp_path / "precious").mkdir()
    shutil.rmtree(run / "checkpoints")
    (run / "checkpoints").symlink_to(tmp_path / "precious")
    done = icot("train", "resume=run", "trainer.max_epochs=9", cwd=tmp_path)
    assert done.returncode == 2
    assert "outside the run directory" in done.stderr
    assert not list((tmp_path / "precious").iterdir())

    (run / "checkpoints").unlink()
    shutil.copytree(small_run / "checkpoints", run / "checkpoints")
    config = run / "config.yaml"
    config.write_text(
        config.read_text().replace("cache_dir: cache", f"cache_dir: {tmp_path / 'precious'}")
    )
    done = icot("train", "resume=run", "trainer.max_epochs=5", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert not list((tmp_path / "precious").iterdir())
    assert {p.name for p in tmp_path.iterdir()} == {"run", "precious", "data"}


@pytest.mark.parametrize("kind", ["tokenizer", "model"])
def test_a_model_folder_that_brings_code_is_refused(small_run, tmp_path, kind):
    run = tmp_path / "run"
    shutil.copytree(small_run, run)
    (run / "model" / "evil.py").write_text("open('was_run', 'w').close()\n")
    for name in ("config.json",) if kind == "model" else ("tokenizer_config.json",):
        path = run / "model" / name
        content = json.loads(path.read_text())
        content["auto_map"] = {
            "AutoConfig": "evil.C",
            "AutoModelForCausalLM": "evil.M",
            "AutoTokenizer": ["evil.T", "evil.T"],
        }
        content["model_type"] = "evil"
        content["tokenizer_class"] = "T"
        path.write_text(json.dumps(content))
    done = icot("evaluate", "run_dir=run", "paths.cache_dir=cache", cwd=tmp_path)
    assert done.returncode in (0, 2), done.stderr  # the tokenizer's own file may do without
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.rglob("was_run"))
