"""The hidden states of many questions at chosen layers and places, of frozen weights.

A forward pass over each whole correct sequence of the stage. What is larger than ``IN_MEMORY`` goes
into a file that is mapped into memory, and only the states of one layer and place are read at once.
"""

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from icot.data.staged import StagedExamples
from icot.models.forward import supervised_logits
from icot.models.hidden_states import BlockInputs
from icot.models.introspection import config_of, device_of
from icot.probing.places import NOWHERE, columns_of
from icot.removal import CoTBatch
from icot.system.files import explain_refusal

IN_MEMORY = 2**30  # bytes
MIX = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class States:
    """Hidden states of n examples at L layers and P places.

    Attributes:
        values: [L, P, n, D], in memory or mapped.
        layers: [L] blocks before each; 0 is the embeddings, the last one stands before the final
            norm.
        names: [P] of the places.
        tokens: [P, n] the tokens there, ``NOWHERE`` where an example lacks the place.
        seen: [P, n] equal numbers where all tokens up to the place are equal: the state's input.
    """

    values: NDArray[np.float32]
    layers: list[int]
    names: list[str]
    tokens: NDArray[np.int64]
    seen: NDArray[np.uint64]

    def at(self, layer: int, place: int, rows: NDArray[np.int64], device: torch.device) -> Tensor:
        """The states [m, D] of some examples at one layer and place, by their indices here."""
        return torch.from_numpy(np.asarray(self.values[layer, place][rows])).to(device)


def batch_with_columns(
    examples: StagedExamples, index: NDArray[np.int64], names: Sequence[str], device: torch.device
) -> tuple[CoTBatch, Tensor]:
    """The examples ``index`` [B] at their stage, and the columns [B, P] of places in them."""
    batch = examples.batch(index)
    fillers = torch.from_numpy(examples.fillers[index])
    removed = torch.from_numpy(examples.whole_lengths[index]) - batch.lengths + fillers
    columns = columns_of(batch, removed, fillers, names, examples.side)
    return batch.to(device), columns.to(device)


@torch.no_grad()
def collect(
    model: nn.Module,
    examples: StagedExamples,
    layers: Sequence[int],
    names: Sequence[str],
    batch_size: int,
    folder: Path,
) -> States:
    """Read the states of all examples.

    Args:
        model: a causal LM on its device, in evaluation mode.
        examples: n of them, at a stage.
        layers: L of them, from 0 to the number of blocks.
        names: of P places.
        batch_size: examples in a forward pass.
        folder: for the mapped file, which has no name and vanishes with the process.

    Raises:
        RunError: the folder has no room for the file.
    """
    device, n = device_of(model), len(examples)
    shape = (len(layers), len(names), n, int(config_of(model).hidden_size))
    values = _room(shape, folder)
    tokens = np.full((len(names), n), NOWHERE, dtype=np.int64)
    seen = np.zeros((len(names), n), dtype=np.uint64)
    reader = BlockInputs(model, after_last=True)
    try:
        for start in range(0, n, batch_size):
            index = np.arange(start, min(start + batch_size, n))
            batch, columns = batch_with_columns(examples, index, names, device)
            with reader.keep(columns.clamp(min=0)) as kept:
                supervised_logits(model, batch)
            for i, layer in enumerate(layers):
                values[i][:, index] = kept[layer].transpose(0, 1).float().cpu()
            ids, at = batch.input_ids.cpu().numpy(), columns.cpu().numpy()
            here = np.take_along_axis(ids, at.clip(min=0), axis=1)
            tokens[:, index] = np.where(at == NOWHERE, NOWHERE, here).T
            seen[:, index] = np.take_along_axis(_prefixes(ids), at.clip(min=0), axis=1).T
    finally:
        reader.remove()
    return States(values, list(layers), list(names), tokens, seen)


def _room(shape: tuple[int, ...], folder: Path) -> NDArray[np.float32]:
    size = 4 * int(np.prod(shape))
    if size <= IN_MEMORY:
        return np.zeros(shape, dtype=np.float32)
    with explain_refusal(folder), tempfile.TemporaryFile(dir=folder) as file:
        # A write into a mapped file that finds the disk full would kill the process.
        os.posix_fallocate(file.fileno(), 0, size)
        return np.memmap(file, dtype=np.float32, mode="r+", shape=shape)


def _prefixes(ids: NDArray[np.int64]) -> NDArray[np.uint64]:
    """[B, T] a hash of each row's tokens up to and with each column."""
    found = np.zeros(ids.shape, dtype=np.uint64)
    last = np.zeros(len(ids), dtype=np.uint64)
    for column, tokens in enumerate(ids.T.astype(np.uint64)):
        last = (last + tokens + np.uint64(1)) * MIX
        last ^= last >> np.uint64(29)
        found[:, column] = last
    return found
