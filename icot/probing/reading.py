"""Probes at each layer and place of a model, and where each thing is read best.

What is read at a place counts as far as it is better than two things: the control task, and a
look-up of the token that stands there. An answer's digit tells itself; no model has worked it out.
So the best place of a token that is written is one before it, too.

The tested questions fall into two halves. The first chooses a thing's best place, the second gives
its accuracy there: the best of many numbers is too good by chance.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from icot.evaluation.scoring import wilson_interval
from icot.probing.linear import Labels, control, encode, is_right, look_up, majority, read
from icot.probing.places import NOWHERE, places_before
from icot.probing.questions import Targets
from icot.probing.states import States

LEAST = 10  # examples to learn from, and in each half of the tested ones
Float = NDArray[np.float64]
COUNTS = ("n", "right", "control", "token", "majority", "before")  # of a reading, by thing last
MEANS = ("accuracy", "control", "selectivity", "token", "majority", "gain", "from_question")


@dataclass(frozen=True)
class Reading:
    """What probes of K things read at L layers and P places.

    Attributes:
        layers, names: [L] and [P].
        targets: the names of the K things.
        n: [2, P, K] tested questions in each half.
        right: [2, L, P, K] how many of them the probe got right.
        control: [2, L, P, K] how many labels of the control task.
        token: [2, P, K] how many the token at the place tells by itself.
        majority: [2, P, K] how many have the most frequent value.
        before: [K] how many of the places come before each thing is written; P if it is not.
    """

    layers: list[int]
    names: list[str]
    targets: list[str]
    n: NDArray[np.int64]
    right: NDArray[np.int64]
    control: NDArray[np.int64]
    token: NDArray[np.int64]
    majority: NDArray[np.int64]
    before: NDArray[np.int64]

    def share(self, counts: NDArray[np.int64], half: int | None = None) -> Float:
        """Counts [2, ...] as a share of the tested questions, or of a half; nan where none is."""
        whole = slice(None) if half is None else slice(half, half + 1)
        n = self.n[whole].sum(0)
        with np.errstate(invalid="ignore", divide="ignore"):
            found: Float = counts[whole].sum(0) / n
        return found

    def gain(self, half: int | None = None) -> Float:
        """[L, P, K] from 0, no better than control task or token, to 1, always right.

        It is 0 where one of those two is nearly always right, since nothing can be said there, and
        nan where there is no such place.
        """
        without = np.maximum(self.share(self.control, half), self.share(self.token, half))
        more = self.share(self.right, half) - without
        found: Float = np.clip(more / np.maximum(1 - without, 0.05), 0, 1)
        return found

    def only(self, things: Sequence[int]) -> "Reading":
        """The reading of some of the things, by their indices."""
        counts = {name: getattr(self, name)[..., things] for name in COUNTS}
        return replace(self, targets=[self.targets[k] for k in things], **counts)

    def best(self, k: int, layers: Sequence[int] | None = None) -> tuple[int, int] | None:
        """The layer and place, by index, where the first half reads thing ``k`` best."""
        before = self.before[k]
        gain = self.gain(0)[:, :before, k].copy()
        gain[:, self.n[1, :before, k] == 0] = np.nan  # the second half says nothing
        if layers is not None:
            gain[[i for i in range(len(self.layers)) if self.layers[i] not in layers]] = np.nan
        if np.isnan(gain).all():  # also where there is none
            return None
        layer, place = np.unravel_index(int(np.nanargmax(gain)), gain.shape)
        return int(layer), int(place)

    def describe(self, k: int) -> dict[str, Any]:
        """The best place of thing ``k``, and what the second half reads there."""
        found = self.best(k)
        if found is None:
            return {"target": self.targets[k], "layer": None, "position": None}
        layer, place = found
        n, right = int(self.n[1, place, k]), int(self.right[1, layer, place, k])
        low, high = wilson_interval(right, n)
        learned = float(self.share(self.control, 1)[layer, place, k])
        return {
            "target": self.targets[k],
            "layer": self.layers[layer],
            "position": self.names[place],
            "n": n,
            "accuracy": round(right / n, 6),
            "accuracy_low": round(low, 6),
            "accuracy_high": round(high, 6),
            "control": round(learned, 6),
            "selectivity": round(right / n - learned, 6),
            "token": round(float(self.share(self.token, 1)[place, k]), 6),
            "majority": round(float(self.share(self.majority, 1)[place, k]), 6),
            "gain": round(float(self.gain(1)[layer, place, k]), 6),
        }

    def rows(self, about: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """The rows of probe.csv; ``about`` is in each of them."""
        right, learned = self.share(self.right), self.share(self.control)
        told, most = self.share(self.token), self.share(self.majority)
        for k, target in enumerate(self.targets):
            for i, layer in enumerate(self.layers):
                for j, name in enumerate(self.names):
                    if self.n[:, j, k].any():
                        yield {
                            **about,
                            "target": target,
                            "layer": layer,
                            "position": name,
                            "n": int(self.n[:, j, k].sum()),
                            "accuracy": round(right[i, j, k], 4),
                            "control": round(learned[i, j, k], 4),
                            "selectivity": round(right[i, j, k] - learned[i, j, k], 4),
                            "token": round(told[j, k], 4),
                            "majority": round(most[j, k], 4),
                        }


@torch.no_grad()
def probe(
    states: States,
    targets: Targets,
    learned: int,
    *,
    order: Sequence[str],
    most_classes: int,
    ridge: float,
    seed: int,
    device: torch.device,
    say: Callable[[int], None] = lambda place: None,
) -> Reading:
    """Read every target at every layer and place.

    Args:
        states: of n examples, in random order.
        targets: of the same examples.
        learned: probes learn from the first so many examples and are tested on the others.
        order: the names of all places of the stage, in order.
        most_classes: of a probe; rarer values count as wrong.
        ridge: as in ``icot.probing.linear.read``.
        seed: of the control task's labels.
        device: computes the probes.
        say: is told the number of each place that is done.
    """
    labels = encode(targets.values, learned, most_classes)
    shape = (2, len(states.names), len(targets.names))
    n, told, most = (np.zeros(shape, dtype=np.int64) for _ in range(3))
    wide = (2, len(states.layers), *shape[1:])
    right, of_control = np.zeros(wide, dtype=np.int64), np.zeros(wide, dtype=np.int64)
    often = majority(labels, learned)
    before = np.array([places_before(t, states.names, order) for t in targets.names])
    for place, tokens in enumerate(states.tokens):
        there = np.flatnonzero(tokens != NOWHERE)
        own, asked = there[there < learned], there[there >= learned]
        halves = np.array_split(np.arange(len(asked)), 2)
        if len(own) < LEAST or len(halves[1]) < LEAST:
            continue
        random = control(labels, states.seen[place], learned, seed)
        both = torch.from_numpy(np.hstack([labels.numbers, random.numbers])).to(device)
        present = labels.present[asked]
        numbers = labels.numbers
        by_token = look_up(tokens[own], numbers[own], tokens[asked]) == numbers[asked]
        for layer in range(len(states.layers)):
            found = read(
                states.at(layer, place, own, device),
                both[own],
                states.at(layer, place, asked, device),
                ridge,
            )
            good = is_right(found, both[asked]).cpu().numpy()
            real, by_heart = np.hsplit(good, 2)
            for half, rows in enumerate(halves):
                right[half, layer, place] = (real & present)[rows].sum(0)
                of_control[half, layer, place] = (by_heart & present)[rows].sum(0)
        for half, rows in enumerate(halves):
            n[half, place] = present[rows].sum(0)
            told[half, place] = (by_token & present)[rows].sum(0)
            most[half, place] = (often[asked - learned] & present)[rows].sum(0)
        say(place)
    return Reading(
        states.layers, states.names, targets.names, n, right, of_control, told, most, before
    )


def read_from_tokens(
    examples_tokens: NDArray[np.int64], labels: Labels, learned: int, ridge: float
) -> Float:
    """[K] the accuracy of the same probes on the question itself: its tokens, one-hot.

    What is read here, a probe can add up from the question, and no model need have computed it.

    Args:
        examples_tokens: [Q, n] tokens of the question's places, ``NOWHERE`` where there is none.
        labels: of the n examples.
        learned: the probes learn from the first so many.
        ridge: as in ``icot.probing.linear.read``.
    """
    columns = [
        (place == token)[:, None]
        for place in examples_tokens
        for token in np.unique(place[:learned])
        if (place[:learned] == token).mean() > 0.01
    ]
    states = torch.from_numpy(np.hstack(columns)).float()
    numbers = torch.from_numpy(labels.numbers)
    found = read(states[:learned], numbers[:learned], states[learned:], ridge)
    present = labels.present[learned:]
    good = is_right(found, numbers[learned:]).numpy() & present
    share: Float = good.sum(0) / np.maximum(present.sum(0), 1)
    return share


def summarize(best: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float | None]]:
    """For each kind of thing, how many are read anywhere and the means over their best places.

    The means are None where none is.
    """
    found = {}
    for kind in dict.fromkeys(one["kind"] for one in best):
        of_kind = [one for one in best if one["kind"] == kind and one["layer"] is not None]
        means = {
            name: round(float(np.mean([one[name] for one in of_kind])), 4) if of_kind else None
            for name in MEANS
        }
        found[kind] = {"things": len(of_kind), **means}
    return found
