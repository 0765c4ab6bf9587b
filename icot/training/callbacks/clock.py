"""Dropout as a function of (seed, batch, rank), like every other random draw of a run.

Torch's generators are seeded anew for every batch, so that a checkpoint needs no generator's state
and a resumed run draws what the uninterrupted one draws.
"""

from typing import Any

import numpy as np
import torch
from lightning import Callback, LightningModule, Trainer

from icot.training.callbacks.stages import datamodule_of


class BatchSeed(Callback):
    """Seeds torch before each training batch.

    Args:
        seed: of the run.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Before anything is drawn for this batch."""
        position = (self.seed, datamodule_of(trainer).stage.batches, trainer.global_rank)
        seed = int(np.random.SeedSequence(position).generate_state(1, np.uint64)[0])
        torch.default_generator.manual_seed(seed)
        if pl_module.device.type == "cuda":
            torch.cuda.manual_seed(seed)
