"""A callback that makes the loss of one training example not a number."""

from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer


class Poison(Callback):
    """The embeddings of an example's row are NaN, whenever it is trained.

    Args:
        example: its number in the training split.
    """

    def __init__(self, example: int) -> None:
        self.example = example
        self._hook: Any = None

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if self._hook is not None:
            self._hook.remove()
        if batch.examples is None:  # this device has no share of the batch
            self._hook = None
            return
        rows = batch.examples == self.example

        def poison(module: Any, inputs: Any, output: torch.Tensor) -> torch.Tensor:
            return output.masked_fill(rows[:, None, None], float("nan"))

        embedding = pl_module.model.get_input_embeddings()
        self._hook = embedding.register_forward_hook(poison) if rows.any() else None
