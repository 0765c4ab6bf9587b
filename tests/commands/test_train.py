"""The entry points as a user calls them: real configurations, tiny limits, real run directories."""

import csv
import json
import shutil
from pathlib import Path

import pytest
import torch

from tests.conftest import icot
from tests.running import assert_refused
from tests.small import SMALL, TWO_RANKS


def stages(folder: Path) -> list[dict[str, str]]:
    with (folder / "stages.csv").open() as file:
        return list(csv.DictReader(file))


def test_a_run_directory_explains_itself(tmp_path):
    overrides = [*SMALL, "schedule=icot_si", "schedule.tokens_per_epoch=4", "trainer.max_epochs=3"]
    done = icot(
        "train",
        *overrides,
        "trainer.max_steps=-1",
        "trainer.log_every_n_steps=5",
        "checkpoints.every_stage=true",
        "hydra.run.dir=run",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    run = tmp_path / "run"
    rows = stages(run)
    # 200 examples in batches of 16: 13 batches an epoch, 4 tokens in each, the chain has 8.
    assert [int(r["tokens_removed"]) for r in rows] == list(range(9))
    assert [int(r["batches"]) for r in rows] == [4, 3, 3, 3, 4, 3, 3, 3, 13]
    assert [int(r["examples_seen"]) for r in rows] == [64, 112, 160, 200, 264, 312, 360, 400, 600]
    summary = json.loads((run / "summary.json").read_text())
    assert summary["fully_internalized"] is True
    assert summary["tokens_removed"] == 8
    assert summary["examples_seen"] == 600
    assert summary["effective_batch_size"] == 16
    assert summary["accuracy"] == float(rows[-1]["val_accuracy"])
    assert summary["validation_examples"] == 40
    command = (run / "command.txt").read_text()
    assert command.startswith("python -m icot.train task=mult2")
    environment = json.loads((run / "environment.json").read_text())
    assert environment["packages"]["torch"] == torch.__version__
    assert "tokens_per_epoch: 4" in (run / "config.yaml").read_text()
    with (run / "metrics.csv").open() as file:
        metrics = list(csv.DictReader(file))
    assert {"train/loss", "val/accuracy", "cot/tokens_removed"} <= set(metrics[0])
    assert [json.loads(x)["target"] for x in (run / "predictions.jsonl").open()]
    assert (run / "accuracy_by_tokens_removed.png").read_bytes().startswith(b"\x89PNG")
    checkpoints = {p.name for p in (run / "checkpoints").iterdir()}
    stage_files = {f"stage-{i:04d}.ckpt" for i in range(9)}
    assert checkpoints == {"best.ckpt", "last.ckpt", "step-00000026.ckpt", *stage_files}
    loaded = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    everything = {"stage": 8, "tokens_removed": 8, "everything_removed": True}
    header = loaded["icot"]
    assert header["trained_at"] == header["next_stage"] == everything
    assert (header["method"], header["resumes"]) == ("icot_si", True)
    assert (header["step"], header["epoch"], header["batches"]) == (39, 2, 39)
    for number in range(9):
        path = run / "checkpoints" / f"stage-{number:04d}.ckpt"
        header = torch.load(path, weights_only=True)["icot"]
        assert header["trained_at"]["stage"] == header["trained_at"]["tokens_removed"] == number
        assert header["trained_at"]["everything_removed"] is (number == 8)
        assert header["resumes"] is False
    for words in ("Stages", "Examples", "accuracy", "Run directory: "):
        assert words in done.stdout


@pytest.mark.parametrize(
    ("schedule", "optimizer"),
    [
        ("icot_si", "muon"),
        ("official", "adamw"),
        ("adaptive", "muon"),
        ("explicit", "adamw"),
        ("no_cot", "muon"),
    ],
)
def test_every_schedule_and_optimizer_trains(tmp_path, schedule, optimizer):
    done = icot(
        "train",
        *SMALL,
        f"schedule={schedule}",
        f"optimizer={optimizer}",
        "trainer.max_steps=4",
        "hydra.run.dir=run",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert stages(tmp_path / "run")


def test_a_users_mistake_is_one_message_and_exit_code_2(tmp_path):
    done = icot("train", "taks=mult4", "schedule.side=up", "+schedule.x=1", cwd=tmp_path)
    assert done.returncode == 2
    assert "3 mistakes" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["task=text", "task.data_dir=nowhere"], "task.data_dir"),
        (["task=gsm8k"], "train_file"),
        (["task=gsm8k_hub"], "task.data_dir"),
        (["model=gpt2"], "model.tokenizer"),
        (["model=gpt2", "model.pretrained=false"], "model.tokenizer"),
        (["task.train_size=900000"], "810000 questions"),
    ],
)
def test_what_is_missing_says_what_to_set(tmp_path, overrides, expected):
    done = icot("train", *overrides, "trainer.max_steps=1", cwd=tmp_path, HF_HUB_OFFLINE="1")
    assert_refused(done, expected)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["trainer.devices=[0,1]"], "trainer.devices=[0, 1] chooses among GPUs"),
        (["trainer=ddp", "trainer.accelerator=cpu"], "set a number of processes"),
        (["+callbacks.x._target_=lightning.Nope"], "callbacks.x._target_=lightning.Nope: cannot"),
        (["+callbacks.x._target_=builtins.dict"], "must be a class of Lightning callbacks"),
        (["+callbacks.x._target_=lightning.pytorch.callbacks.EarlyStopping"], "'monitor'"),
        (
            ["data.max_train_tokens=20", "schedule.smoothing_lambda=inf"],
            "shortest example has 21; set a larger one, or null; or set schedule.patience",
        ),
        (["data.max_train_tokens=12", "schedule=icot_si"], "8 tokens of the chain removed"),
        (["model.config.activation_function=nope"], "model.config is not valid for gpt2: there is"),
        (["model.config.resid_pdrop=x"], "model.config is not valid for gpt2: Validation error"),
    ],
)
def test_what_only_the_libraries_can_tell_is_a_message_too(tmp_path, overrides, said):
    done = icot("train", *SMALL, *overrides, "hydra.run.dir=run", cwd=tmp_path)
    assert_refused(done, said)
    assert not (tmp_path / "run" / "config.yaml").exists()


def test_a_change_that_an_architecture_does_not_know_is_named(tmp_path):
    done = icot(
        "train", *SMALL, "+model.config.resid_drop=0.1", "trainer.max_steps=1", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert "model.config: gpt2 does not have resid_drop" in done.stdout + done.stderr


def test_a_lack_of_memory_is_a_message(tmp_path):
    """A row of 400,000 tokens, whose attention scores would take more than a terabyte."""
    (tmp_path / "valid.txt").write_text("1 + 1||1 1 #### 2\n")
    (tmp_path / "train.txt").write_text(f"1 + 1||{'1 ' * 400_000}#### 2\n")
    own = [text for text in SMALL if not text.startswith("task")]
    own += ["task=text", "task.data_dir=.", "task.test_file=null", "hydra.run.dir=run"]
    done = icot("train", *own, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert "there is not enough memory" in done.stderr
    assert "the longest has 4000" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_bad_line_names_file_and_line(tmp_path):
    (tmp_path / "train.txt").write_text("1 + 1||2 #### 2\nnonsense\n")
    (tmp_path / "valid.txt").write_text("1 + 1||2 #### 2\n")
    done = icot("train", "task=text", "task.data_dir=.", "task.test_file=null", cwd=tmp_path)
    assert done.returncode == 2
    assert "train.txt, line 2" in done.stderr


@pytest.mark.slow
@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_a_compiled_model_makes_the_same_updates(tmp_path):
    rows = []
    for compile_mode in ("null", "default"):
        done = icot(
            "train", *SMALL, "schedule=icot_si", "schedule.tokens_per_epoch=8", "optimizer=adamw",
            "trainer.max_steps=8", "trainer.log_every_n_steps=1", "validation.examples=4",
            f"model.compile={compile_mode}", f"hydra.run.dir=run_{compile_mode}", cwd=tmp_path,
            TORCHINDUCTOR_CACHE_DIR=str(tmp_path / "inductor"), forked=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        with (tmp_path / f"run_{compile_mode}" / "metrics.csv").open() as file:
            rows.append([float(r["train/loss"]) for r in csv.DictReader(file) if r["train/loss"]])
    assert len(rows[0]) == 8
    assert rows[1] == pytest.approx(rows[0], rel=1e-4)


def test_a_multirun_with_joblib_makes_one_complete_directory_each(tmp_path):
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    done = icot(
        "train",
        "-m",
        *SMALL,
        "schedule=icot_si",
        "schedule.tokens_per_epoch=4,8",
        "schedule.smoothing_lambda=4,inf",
        "trainer.max_steps=6",
        "hydra/launcher=joblib",
        "hydra.launcher.n_jobs=2",
        "hydra.sweep.dir=sweep",
        cwd=tmp_path,
        forked=False,
    )
    assert done.returncode == 0, done.stderr
    summaries = sorted((tmp_path / "sweep").glob("*/summary.json"))
    assert len(summaries) == 4
    for summary in summaries:
        assert (summary.parent / "stages.csv").is_file()
        assert (summary.parent / "config.yaml").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_processes_equal_one(tmp_path, strategy):
    """Same stages, examples, and weights within tolerance; one has no share of the last batch.

    The two stop after an epoch and go on from their checkpoint; one does not.
    """
    common = [
        *SMALL,
        "task.train_size=65",
        "schedule=icot_si",
        "schedule.tokens_per_epoch=4",
        "schedule.smoothing_lambda=0.5",
        "optimizer=adamw",
        "optimizer.lr=1e-3",
        "optimizer.eps=1e-4",
        "trainer.max_epochs=2",
        "trainer.max_steps=-1",
        "paths.cache_dir=cache",
    ]
    one = icot("train", *common, "validation.decode=always", "hydra.run.dir=one", cwd=tmp_path)
    assert one.returncode == 0, one.stderr
    two = icot(
        "train",
        *common,
        "data.batch_size=8",
        f"trainer={strategy}",
        *TWO_RANKS,
        "trainer.max_epochs=1",
        "hydra.run.dir=two",
        cwd=tmp_path,
    )
    assert two.returncode == 0, two.stderr
    two = icot("train", "resume=two", "trainer.max_epochs=2", cwd=tmp_path)
    assert two.returncode == 0, two.stderr
    keys = ("stage", "tokens_removed", "step", "examples_seen", "batches")
    first, second = stages(tmp_path / "one"), stages(tmp_path / "two")
    assert [[r[k] for k in keys] for r in first] == [[r[k] for k in keys] for r in second]
    weights = [
        torch.load(tmp_path / n / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        for n in ("one", "two")
    ]
    for name in weights[0]:
        assert torch.allclose(weights[0][name], weights[1][name], atol=2e-5), name
    for a, b in zip(first, second, strict=True):
        assert float(a["val_token_accuracy"]) == pytest.approx(
            float(b["val_token_accuracy"]), abs=0.01
        )
    summaries = [json.loads((tmp_path / n / "summary.json").read_text()) for n in ("one", "two")]
    assert summaries[0]["effective_batch_size"] == summaries[1]["effective_batch_size"] == 16
    assert [len(s["per_device"]) for s in summaries] == [1, 2]
    for device in summaries[1]["per_device"]:
        assert device["tokens_per_second"] > device["examples_per_second"] > 0
        assert device["peak_memory_bytes"] > 1e8
    whole = summaries[0]["per_device"][0]["state_memory_bytes"]
    of_each = 4 * 4  # weight, gradient and two moments of four bytes
    assert whole == pytest.approx(of_each * summaries[0]["parameters"], rel=0.02)
    share = {"ddp": 1.0, "fsdp": 0.5}[strategy]
    for device in summaries[1]["per_device"]:
        assert device["state_memory_bytes"] == pytest.approx(share * whole, rel=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_processes_equal_one_where_rows_are_packed_and_batches_are_empty(tmp_path, strategy):
    """Adaptive stages; of some batches one device, or none, has an example that is short enough."""
    lines = [
        f"{a} * {b}||{' + '.join('1' * (1 + (a * b) % 12))} #### {a * b}\n"
        for a in range(2, 10)
        for b in range(2, 10)
    ]
    for split in ("train", "valid"):
        (tmp_path / f"{split}.txt").write_text("".join([*lines, lines[0]]))
    common = [
        *(text for text in SMALL if not text.startswith("task")),
        "task=text",
        "task.data_dir=.",
        "task.test_file=null",
        "schedule.patience=4",
        "schedule.keep_position_ids=false",
        "schedule.tokens_per_stage=5",
        "optimizer=adamw",
        "optimizer.lr=1e-3",
        "optimizer.eps=1e-4",
        "data.max_train_tokens=18",
        "data.packing=true",
        "trainer.max_epochs=2",
        "trainer.max_steps=-1",
        "trainer.accumulate_grad_batches=2",
        "paths.cache_dir=cache",
    ]
    one = icot("train", *common, "data.batch_size=4", "hydra.run.dir=one", cwd=tmp_path)
    assert one.returncode == 0, one.stderr
    devices = [f"trainer={strategy}", *TWO_RANKS, "data.batch_size=2", "hydra.run.dir=two"]
    two = icot("train", *common, *devices, cwd=tmp_path)
    assert two.returncode == 0, two.stderr
    keys = ("stage", "tokens_removed", "step", "examples_seen", "tokens_seen", "batches")
    first, second = stages(tmp_path / "one"), stages(tmp_path / "two")
    assert [[r[k] for k in keys] for r in first] == [[r[k] for k in keys] for r in second]
    summaries = [json.loads((tmp_path / n / "summary.json").read_text()) for n in ("one", "two")]
    dropped = [s["examples_dropped_as_too_long"] for s in summaries]
    assert dropped[0] == dropped[1] > 0
    weights = [
        torch.load(tmp_path / n / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        for n in ("one", "two")
    ]
    for name in weights[0]:
        assert torch.allclose(weights[0][name], weights[1][name], atol=2e-6), name


@pytest.mark.parametrize("logger", ["wandb", "tensorboard"])
def test_loggers_write_into_the_run_directory(tmp_path, logger):
    pytest.importorskip(logger)
    done = icot(
        "train",
        *SMALL,
        f"logger={logger}",
        "trainer.max_steps=3",
        "hydra.run.dir=run",
        cwd=tmp_path,
        WANDB_MODE="offline",
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "metrics.csv").is_file()
    assert list((tmp_path / "run" / logger).rglob("*" if logger == "wandb" else "events.*"))


def test_the_users_own_callback_is_called(tmp_path):
    done = icot(
        "train",
        *SMALL,
        "+callbacks.rate._target_=lightning.pytorch.callbacks.LearningRateMonitor",
        "trainer.max_steps=2",
        "trainer.log_every_n_steps=1",
        "hydra.run.dir=run",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert "lr-" in (tmp_path / "run" / "metrics.csv").read_text()


def test_a_second_of_our_own_callbacks_is_refused(tmp_path):
    done = icot(
        "train",
        *SMALL,
        "+callbacks.more._target_=icot.training.callbacks.progress.Progress",
        "trainer.max_steps=2",
        "hydra.run.dir=run",
        cwd=tmp_path,
    )
    assert done.returncode == 2, done.stderr
    assert "callbacks.more: Progress is part of every run already" in done.stderr


def test_lora_trains_on_a_local_folder(tmp_path, symbols):
    pytest.importorskip("peft")
    from icot.models.loading import load_model

    load_model(
        "gpt2", False, symbols, 40, {"n_layer": 1, "n_embd": 16, "n_head": 2}
    ).save_pretrained(tmp_path / "base")
    symbols.save_pretrained(tmp_path / "base")
    done = icot(
        "train",
        "task=mult2",
        "task.train_size=100",
        "model=gpt2",
        "model.name_or_path=base",
        "model.lora.r=2",
        "model.lora.target_modules=[c_attn]",
        "trainer=cpu",
        "trainer.max_steps=2",
        "validation.examples=10",
        "hydra.run.dir=run",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert stages(tmp_path / "run")


def test_gsm8k_from_the_real_files(tmp_path, real_data):
    done = icot(
        "train",
        "task=gsm8k",
        f"task.data_dir={real_data / 'gsm8k'}",
        "task.train_file=valid.txt",
        "task.test_file=null",
        "task.train_size=64",
        "task.valid_size=8",
        "model.config.n_layer=1",
        "model.config.n_embd=32",
        "model.config.n_head=2",
        "data.batch_size=8",
        "data.max_train_tokens=150",
        "trainer=cpu",
        "optimizer.decay_steps=0",
        "trainer.max_steps=10",
        "schedule=icot_si",
        "schedule.remove_all_beyond=4",
        "hydra.run.dir=run",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["fully_internalized"] is True


def test_prepare_writes_the_format_and_table_1(tmp_path, real_data):
    done = icot(
        "prepare",
        "task=mult4",
        "model=gpt2",
        f"model.tokenizer={real_data / 'gpt2-tokenizer'}",
        "size=50",
        "seed=9",
        "out=files",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert "9 (9-9)" in done.stdout
    assert "46 (46-46)" in done.stdout
    from icot.tasks.multiplication import example

    for split in ("train", "valid", "test"):
        lines = (tmp_path / "files" / f"{split}.txt").read_text().splitlines()
        assert len(lines) == 50
        for line in lines:
            a, b = (int(x.replace(" ", "")[::-1]) for x in line.split("||")[0].split(" * "))
            assert example(a, b, 4).line() == line


def test_help_and_cfg_are_readable(tmp_path):
    shown = icot("train", "--help", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert "Choose one of each group" in shown.stdout
    assert (
        "schedule: adaptive, dial, explicit, icot_si, logarithmic, mastery, no_cot" in shown.stdout
    )
    composed = icot("train", "--cfg", "job", cwd=tmp_path)
    assert composed.returncode == 0, composed.stderr
    assert "tokens_per_stage" in composed.stdout
