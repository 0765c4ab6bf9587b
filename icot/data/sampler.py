"""The examples of a batch: a pure function of (seed, epoch, cursor, rank).

An epoch is one permutation of the examples. Global batch c of an epoch is its c-th slice of
``batch_size * world_size`` examples; the last one may be smaller. Rank r takes every
``world_size``-th row of it, starting with row r. So sampling can resume at any position.

Examples may be in groups, several of one question. An epoch is then a permutation of the groups,
and shows one example of each, a pure function of (seed, epoch, group). Examples may be in phases,
which an epoch visits one after another, each in a permutation of its own: a curriculum.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler


def epoch_order(
    examples: int, seed: int, epoch: int, phases: Sequence[int] = ()
) -> NDArray[np.int64]:
    """The order [examples] in which an epoch visits the examples.

    Args:
        examples: how many there are.
        seed, epoch: decide the order.
        phases: sizes of consecutive parts that are visited one after another; () is one part.
    """
    generator = np.random.default_rng([seed, epoch])
    parts = [generator.permutation(size) for size in phases or (examples,)]
    begins = np.cumsum([0, *map(len, parts)])
    return np.concatenate([part + begin for part, begin in zip(parts, begins, strict=False)])


def drawn_members(groups: NDArray[np.int64], seed: int, epoch: int) -> NDArray[np.int64]:
    """The row [G] that an epoch shows of each group; ``groups`` [G + 1] are their boundaries."""
    share = np.random.default_rng([seed, epoch, 1]).random(len(groups) - 1)
    members: NDArray[np.int64] = groups[:-1] + (share * np.diff(groups)).astype(np.int64)
    return members


class BatchSampler(Sampler[NDArray[np.int64]]):
    """The batches of one rank in one epoch, each an array of row numbers.

    Args:
        examples: how many there are.
        batch_size: rows per batch and device.
        seed: of every epoch's order.
        rank, world_size: of this device.
        groups: [G + 1] the boundaries of groups of neighbouring examples; None if each example
            stands for itself.
        phases: as of ``epoch_order``.

    Attributes:
        examples: of an epoch.
    """

    def __init__(
        self,
        examples: int,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        groups: NDArray[np.int64] | None = None,
        phases: Sequence[int] = (),
    ) -> None:
        self.examples = examples if groups is None else len(groups) - 1
        self.batch_size, self.seed = batch_size, seed
        self.rank, self.world_size = rank, world_size
        self.groups, self.phases = groups, phases
        self.epoch = 0
        self.cursor = 0

    @property
    def global_batch_size(self) -> int:
        """Rows of a batch over all devices."""
        return self.batch_size * self.world_size

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, counted from 0; Lightning calls this."""
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-self.examples // self.global_batch_size)

    def __iter__(self) -> Iterator[NDArray[np.int64]]:
        order = epoch_order(self.examples, self.seed, self.epoch, self.phases)
        if self.groups is not None:
            order = drawn_members(self.groups, self.seed, self.epoch)[order]
        cursor, self.cursor = self.cursor, 0
        for start in range(cursor * self.global_batch_size, self.examples, self.global_batch_size):
            batch = order[start : start + self.global_batch_size]
            yield batch[self.rank :: self.world_size]
