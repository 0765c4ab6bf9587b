"""What a run does about a loss that is not a number, and about accuracy that is lost."""

import csv
import json

import pytest
import torch

from icot.data.sampler import epoch_order
from tests.chaos.harness import differences, make_overrides
from tests.conftest import icot
from tests.small import SMALL, TWO_RANKS

POISON = ["+callbacks.poison._target_=tests.chaos.poison.Poison", "+callbacks.poison.example=77"]


@pytest.mark.slow
def test_a_loss_that_is_not_a_number_stops_before_the_weights_are_touched(tmp_path):
    command = [*make_overrides(), *POISON, "resume=auto", "hydra.run.dir=run"]
    done = icot("train", *command, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    for words in ("step ", "stage ", "the gradient's norm is nan", "are 77 ('"):
        assert words in done.stderr
    weights = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    assert all(torch.isfinite(w).all() for w in weights["state_dict"].values())

    done = icot("train", *command, "on_nonfinite=rollback", "max_rollbacks=9", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("skips batch") == 4  # once an epoch
    returns = json.loads((tmp_path / "run" / "recoveries.json").read_text())
    assert [r["reason"] for r in returns] == ["nonfinite"] * 4
    assert len({n for r in returns for n in r["skipped"]}) == 4
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["steps"] == 52

    # Uninterrupted, and stopped once it has gone back often enough.
    whole = icot("train", *command[:-1], "hydra.run.dir=whole", "on_nonfinite=rollback",
                 "max_rollbacks=9", cwd=tmp_path)  # fmt: skip
    assert whole.returncode == 0, whole.stderr
    assert differences(tmp_path / "whole", tmp_path / "run") == []
    few = icot("train", *command[:-1], "hydra.run.dir=few", "on_nonfinite=rollback",
               "max_rollbacks=1", cwd=tmp_path)  # fmt: skip
    assert few.returncode == 2
    assert "already gone back 1 times" in few.stderr


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_ranks_go_back_together_where_one_has_no_share_of_the_batch(tmp_path, strategy):
    last = epoch_order(65, seed=1, epoch=0)[64]
    done = icot(
        "train",
        *SMALL,
        "seed=1",
        "task.train_size=65",
        "data.batch_size=8",
        f"trainer={strategy}",
        *TWO_RANKS,
        "trainer.max_steps=-1",
        "trainer.max_epochs=1",
        "+callbacks.poison._target_=tests.chaos.poison.Poison",
        f"+callbacks.poison.example={last}",
        "on_nonfinite=rollback",
        "hydra.run.dir=run",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    (back,) = json.loads((tmp_path / "run" / "recoveries.json").read_text())
    assert back["skipped"] == [4]
    assert f" are {last} (" in back["message"]


COLLAPSE = [
    "task=mult2",
    "task.train_size=6400",
    "task.valid_size=100",
    "task.test_size=10",
    "model.config.n_layer=2",
    "schedule=icot_si",
    "schedule.reset_optimizer=false",
    "schedule.warmup_epochs=4",
    "trainer.max_steps=-1",
    "trainer.max_epochs=8",
    "optimizer.decay_steps=0",
    "trainer=cpu",
    "hydra.run.dir=run",
]


@pytest.mark.slow
def test_a_collapse_is_noticed_and_undone_at_half_the_speed(tmp_path):
    """Explicit CoT for four epochs, then everything is removed within a few batches."""
    done = icot(
        "train",
        *COLLAPSE,
        "schedule.tokens_per_epoch=64",
        "on_collapse=rollback",
        "collapse.validations=3",
        "max_rollbacks=1",
        cwd=tmp_path,
    )
    # A token for every batch and a half is still too many, and once is all it may go back.
    assert done.returncode == 2, done.stderr
    assert "already gone back 1 times" in done.stderr
    assert "collapse: accuracy" in done.stdout
    assert "tokens removed, at half the speed" in done.stdout
    (back,) = json.loads((tmp_path / "run" / "recoveries.json").read_text())
    assert (back["reason"], back["skipped"]) == ("collapse", [])
    with (tmp_path / "run" / "stages.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert float(rows[0]["val_accuracy"]) > 0.8
    assert "collapse" in (tmp_path / "run" / "train.log").read_text()
