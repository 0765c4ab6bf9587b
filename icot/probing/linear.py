"""Linear probes in closed form, and their control task.

A probe is a linear discriminant analysis (Fisher 1936): Gaussian classes that share a covariance S.
It scores class c of a state x by

    x . w_c - m_c . w_c / 2 + log p_c,    w_c = S^-1 m_c

with the class's mean m_c and share p_c. S is the covariance of all states minus that of the class
means, so one factorisation serves all probes of a place (Woodbury's identity). Unlike least squares
on class indicators, it finds a class that lies between two others on a line.

The control task (Hewitt and Liang 2019, arXiv 1909.03368) has random labels, drawn from the
frequencies of the real ones as a function of the input's identity alone: what a probe gets right
there it has learned by heart. Selectivity is the accuracy minus that on the control task.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

ABSENT = -1  # a value that an example does not have
NONE = 0  # the class of what is absent, or too rare to be learned
TINY = 1e-6  # a feature that varies less, relative to its size, is constant


@dataclass(frozen=True)
class Labels:
    """What K probes are to read in n examples.

    Attributes:
        numbers: [n, K] classes from 1, or ``NONE``.
        present: [n, K] whether the example has a value; only such examples count.
    """

    numbers: NDArray[np.int64]
    present: NDArray[np.bool_]


def encode(values: NDArray[np.int64], learned: int, most: int) -> Labels:
    """Number the values that are frequent where probes learn.

    Args:
        values: [n, K] any numbers from 0; ``ABSENT`` where an example has none.
        learned: the probes learn from the first so many examples.
        most: classes of a probe; rarer values have no class, and are wrong whatever a probe says.
    """
    numbers = np.full_like(values, NONE)
    for k in range(values.shape[1]):
        own = values[:learned, k]
        found, counts = np.unique(own[own != ABSENT], return_counts=True)
        kept = np.sort(found[np.argsort(-counts, kind="stable")[:most]])
        if len(kept):
            place = np.searchsorted(kept, values[:, k]).clip(max=len(kept) - 1)
            numbers[:, k] = np.where(kept[place] == values[:, k], place + 1, NONE)
    return Labels(numbers, values != ABSENT)


def control(labels: Labels, identities: NDArray[np.uint64], learned: int, seed: int) -> Labels:
    """Random labels of the same frequencies, equal for equal inputs.

    Args:
        labels: the real ones, [n, K].
        identities: [n] equal numbers for equal inputs.
        learned: the frequencies are those of the first so many examples.
        seed: of the labels.
    """
    found, own = np.unique(identities, return_inverse=True)
    drawn = np.random.default_rng(seed).random((len(found), labels.numbers.shape[1]))[own]
    numbers = np.full_like(labels.numbers, NONE)
    for k, real in enumerate(labels.numbers[:learned].T):
        counts = np.bincount(real)
        counts[NONE] = 0
        if counts.any():
            bounds = counts.cumsum() / counts.sum()
            numbers[:, k] = np.searchsorted(bounds, drawn[:, k], side="right")
    return Labels(np.where(labels.present, numbers, NONE), labels.present)


def majority(labels: Labels, learned: int) -> NDArray[np.bool_]:
    """[n - learned, K] where the most frequent class of the first ``learned`` examples is right."""
    counts = np.stack(
        [(labels.numbers[:learned] == c).sum(0) for c in range(1, labels.numbers.max() + 1)]
    )
    often: NDArray[np.bool_] = labels.numbers[learned:] == counts.argmax(0) + 1
    return often


def look_up(
    tokens: NDArray[np.int64], numbers: NDArray[np.int64], asked: NDArray[np.int64]
) -> NDArray[np.int64]:
    """The classes [m, K] that a token tells by itself: those most frequent with it.

    Args:
        tokens: [n] the tokens to learn from.
        numbers: [n, K] the classes there.
        asked: [m] the tokens of other examples; ``NONE`` is what an unknown one tells.
    """
    found, own = np.unique(tokens, return_inverse=True)
    place = np.searchsorted(found, asked).clip(max=len(found) - 1)
    told = np.full((len(asked), numbers.shape[1]), NONE)
    for k, column in enumerate(numbers.T):
        counts = np.zeros((len(found), column.max() + 1), dtype=np.int64)
        np.add.at(counts, (own, column), 1)
        counts[:, NONE] = 0
        told[:, k] = np.where(found[place] == asked, counts.argmax(1)[place], NONE)
    return told


def read(states: Tensor, numbers: Tensor, asked_states: Tensor, ridge: float) -> Tensor:
    """The classes [m, K] that K probes read in states, after learning from others.

    Args:
        states: [n, D] to learn from; scaled to mean 0 and variance 1 in each of the D.
        numbers: [n, K] their classes.
        asked_states: [m, D] of other examples.
        ridge: added to the variance of each scaled feature; above 0.
    """
    mean, scale = states.mean(0), states.std(0)
    constant = scale <= TINY * states.abs().amax(0)
    scale = torch.where(constant, torch.inf, scale)
    own, asked = (states - mean) / scale, (asked_states - mean) / scale
    n, width = own.shape
    hot = F.one_hot(numbers, int(numbers.max()) + 1)  # [n, K, C]
    k, classes = hot.shape[1:]
    counts = hot.sum(0).double()  # [K, C]
    sums = hot.flatten(1).to(own.dtype).T @ own
    means = sums.view(k, classes, width).double() / counts.clamp(min=1)[..., None]
    covariance = (own.T @ own).double() / n
    covariance.diagonal().add_(ridge)
    factor = torch.linalg.cholesky(covariance)
    solved = torch.cholesky_solve(means.flatten(0, 1).T, factor).view(width, k, classes)
    solved = solved.transpose(0, 1)  # [K, D, C]
    share = counts / n
    between = share[..., None] * (means @ solved)  # [K, C, C]
    weights = torch.linalg.solve(
        torch.eye(classes, device=own.device) - between, solved, left=False
    )
    offsets = share.log() - (means * weights.transpose(1, 2)).sum(-1) / 2
    offsets[:, NONE] = -torch.inf
    scores = asked @ weights.transpose(0, 1).flatten(1).to(own.dtype)
    found: Tensor = (scores.view(len(asked), k, classes) + offsets.to(own.dtype)).argmax(-1)
    return found


def is_right(read_classes: Tensor, numbers: Tensor) -> Tensor:
    """[m, K] whether what was read is the class; a value without a class is wrong."""
    return (read_classes == numbers) & (numbers != NONE)
