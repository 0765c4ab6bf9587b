"""Each private or undocumented structure of Lightning, used as training uses it.

Training set of 6 in batches of 2: 3 batches an epoch.
"""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning import Callback, LightningDataModule, LightningModule, Trainer
from torch import nn
from torch.utils.data import DataLoader, Sampler, TensorDataset

from icot.training import lightning_internals as internals


class Line(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)

    def training_step(self, batch, batch_idx):
        return self.layer(batch[0]).square().sum()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01)


class Data(LightningDataModule):
    def train_dataloader(self):
        return DataLoader(TensorDataset(torch.ones(6, 1)), batch_size=2)


def trainer_with(*callbacks: Callback, **arguments: Any) -> Trainer:
    return Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=list(callbacks),
        **arguments,
    )


def test_callbacks_and_data_module():
    mine, data = Callback(), Data()
    trainer = trainer_with(mine, max_epochs=1)
    callbacks = internals.callbacks_of(trainer)
    assert callbacks[0] is mine
    callbacks.append(late := Seen())  # the list itself: what is added is called
    trainer.fit(Line(), datamodule=data)
    assert internals.datamodule_in(trainer) is data
    assert late.started == 3


class Seen(Callback):
    """Where the loops say that they are."""

    def __init__(self) -> None:
        self.started = 0
        self.at_start: list[tuple[int, int, int]] = []
        self.at_epoch_end: list[tuple[int, int, bool]] = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.started += 1
        assert internals.batch_in_flight(trainer) == batch_idx
        self.at_start.append(
            (internals.epochs_done(trainer), internals.batches_done_in_epoch(trainer), batch_idx)
        )

    def on_train_epoch_end(self, trainer, pl_module):
        self.at_epoch_end.append(
            (
                internals.epochs_done(trainer),
                internals.batches_done_in_epoch(trainer),
                internals.training_is_over(trainer),
            )
        )


def test_where_the_loops_are():
    seen = Seen()
    trainer_with(seen, max_epochs=2).fit(Line(), datamodule=Data())
    assert seen.at_start == [(0, 0, 0), (0, 1, 1), (0, 2, 2), (1, 0, 0), (1, 1, 1), (1, 2, 2)]
    assert seen.at_epoch_end == [(1, 3, False), (2, 3, True)]


@pytest.mark.parametrize(("limit", "step", "ends"), [(-1, 4, 4), (9, 4, 4), (2, 4, 2)])
def test_an_end_after_a_step(limit, step, ends):
    class End(Callback):
        def on_train_start(self, trainer, pl_module):
            internals.end_after_step(trainer, step)

    trainer = trainer_with(End(), max_epochs=3, max_steps=limit)
    trainer.fit(Line(), datamodule=Data())
    assert trainer.global_step == ends


def test_a_checkpoint_from_within_a_batch_resumes_between_two(tmp_path):
    """Saved when batch 1 of epoch 1 is about to begin: the next process begins with that batch."""

    class Save(Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            if (internals.epochs_done(trainer), batch_idx) == (1, 1):
                trainer.save_checkpoint(tmp_path / "last.ckpt")

        def on_save_checkpoint(self, trainer, pl_module, checkpoint):
            internals.place_loops_between_batches(checkpoint, epoch=1, batches=1)

    trainer_with(Save(), max_epochs=2).fit(Line(), datamodule=Data())
    seen = Seen()
    again = trainer_with(seen, max_epochs=2)

    class Rest(Data):
        def train_dataloader(self):
            return DataLoader(
                TensorDataset(torch.ones(6, 1)),
                sampler=From(internals.batches_done_in_epoch(again)),
            )

    again.fit(Line(), datamodule=Rest(), ckpt_path=tmp_path / "last.ckpt")
    assert seen.at_start == [(1, 1, 1), (1, 2, 2)]
    assert again.global_step == 6


class From(Sampler[int]):
    """As ours: as long as an epoch, though its first iteration begins in the middle."""

    def __init__(self, cursor: int) -> None:
        self.cursor = cursor

    def __len__(self) -> int:
        return 3

    def __iter__(self):
        return iter(range(self.cursor, 3))


class Ended(Callback):
    ended = False

    def on_train_end(self, trainer, pl_module):
        self.ended = True


@pytest.mark.parametrize("changed", [False, True])
def test_a_run_that_is_resumed_at_its_end_ends_again(tmp_path, changed):
    first = trainer_with(max_epochs=1)
    first.fit(Line(), datamodule=Data())
    first.save_checkpoint(tmp_path / "last.ckpt")
    ended = Ended()
    again = trainer_with(ended, max_epochs=1)
    if changed:
        internals.end_also_when_resumed_at_the_end(again)
    again.fit(Line(), datamodule=Data(), ckpt_path=tmp_path / "last.ckpt")
    assert ended.ended is changed  # Lightning alone skips it, which is why this exists
    assert again.global_step == 3


def test_the_killer_of_all_ranks():
    assert internals.make_rank_killer(trainer_with(max_epochs=1)) is None
    killed: list[int] = []
    launcher = SimpleNamespace(kill=killed.append)
    trainer: Any = SimpleNamespace(strategy=SimpleNamespace(launcher=launcher))
    kill = internals.make_rank_killer(trainer)
    assert kill is not None
    kill()
    assert killed == [9]
    two = trainer_with(max_epochs=1, devices=2, strategy="ddp")
    assert callable(getattr(two.strategy.launcher, "kill", None)) or two.strategy.launcher is None
