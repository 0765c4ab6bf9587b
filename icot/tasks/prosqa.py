"""ProsQA: which of two kinds is somebody, by a path through a graph of kinds (arXiv 2412.06769).

    Every lempus is a rompus. Max is a lempus. Every yumpus is a vumpus. Bob is a yumpus. Is Max a
    vumpus or rompus?||Max is a lempus. Every lempus is a rompus. #### Max is a rompus.

(one line). The graph has no cycle. One of the two kinds can be reached from the person asked about,
the other one, as far away, from somebody else only. The chain is the only shortest path, a sentence
for each edge. The published problems are read by ``icot.tasks.records`` with ``format: prosqa``.
"""

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from random import Random
from typing import Any

from icot.tasks.base import Example
from icot.tasks.generated import GeneratedTask
from icot.tasks.lines import example_of, text_of

Edge = tuple[str, str]  # somebody or a kind, and the kind that it is

PEOPLE = [
    "Alex", "Bob", "Carol", "Davis", "Eva", "Fae", "Jack", "Max", "Oliver", "Polly", "Rex", "Sally",
    "Sam", "Stella", "Tom", "Wren",
]  # fmt: skip
KINDS = [f"{start}pus" for start in (
    "bom", "boom", "brim", "chor", "dum", "fel", "fom", "ger", "gor", "grim", "gwom", "im", "jel",
    "jom", "ker", "lem", "lor", "num", "rem", "rom", "ror", "scrom", "shum", "ster", "stor", "ter",
    "tim", "tum", "vum", "wor", "wum", "yer", "yim", "yum", "zhor", "zum",
)]  # fmt: skip
OTHERS = 2  # people besides the two at the roots
ON_BOTH_SIDES = 0.1
NEXT = re.compile(r"(?:Every )?(\w+) is an? (\w+)\.")


class ProsQA(GeneratedTask):
    """Random graphs with two people at their roots.

    Args:
        kinds: of a graph, from 6 to 36.
        hops: sentences of the longest chains.
        min_hops: of the shortest ones; None is ``hops``.
        train_size, valid_size, test_size: examples of each split (``icot.tasks.generated``).
        seed: of the graphs.

    Raises:
        ValueError: there are no such graphs.
    """

    name = "prosqa"

    def __init__(
        self,
        kinds: int = 16,
        hops: int = 4,
        min_hops: int | None = None,
        train_size: int | None = None,
        valid_size: int | None = None,
        test_size: int | None = None,
        seed: int = 3456,
    ) -> None:
        shortest = hops if min_hops is None else min_hops
        if not 6 <= kinds <= len(KINDS):
            raise ValueError(f"kinds must be from 6 to {len(KINDS)}, not {kinds}")
        if not 1 <= shortest <= hops <= kinds // 2:
            raise ValueError(
                f"min_hops must be at least 1, hops at least that and at most half of the kinds; "
                f"they are {shortest}, {hops} and {kinds}"
            )
        self.kinds, self.hops = kinds, range(shortest, hops + 1)
        parameters = {"kinds": kinds, "hops": [shortest, hops]}
        super().__init__(parameters, None, train_size, valid_size, test_size, seed)

    def draw(self, rng: Random) -> Example:
        """One example."""
        while True:
            length = rng.choice(self.hops)
            edges, people, ends = self._graph(rng, length)
            paths = [shortest_paths(edges, person) for person in people]
            lengths = [[len(path) for path in paths[i][ends[i]]] for i in (0, 1)]
            if lengths == [[length], [length]] and not any(ends[i] in paths[1 - i] for i in (0, 1)):
                break
        target, other = ends
        rng.shuffle(edges)
        first, second = rng.sample([target, other], 2)
        question = " ".join(sentence(edge) for edge in edges)
        return Example(
            f"{question} Is {people[0]} a {first} or {second}?",
            " ".join(sentence(edge) for edge in paths[0][target][0]),
            sentence((people[0], target)),
        )

    def _graph(
        self, rng: Random, length: int
    ) -> tuple[list[Edge], tuple[str, str], tuple[str, str]]:
        """The edges of a graph, two people, and the ends of a path of ``length`` from each.

        The other kinds hang somewhere below one of them, a few below both. More edges are added
        that make no cycle and no path shorter.
        """
        people, kinds = rng.sample(PEOPLE, 2 + OTHERS), rng.sample(KINDS, self.kinds)
        sides = [kinds[:length], kinds[length : 2 * length]]
        edges = [edge for i in (0, 1) for edge in pairwise([people[i], *sides[i]])]
        depth = {kind: d for side in sides for d, kind in enumerate(side, start=1)}
        depth |= dict.fromkeys(people, 0)
        for kind in kinds[2 * length :]:
            i = rng.randrange(2)
            place = rng.randint(0, len(sides[i]))
            parent = rng.choice([people[i], *sides[i][:place]])
            edges.append((parent, kind))
            depth[kind] = depth[parent] + 1
            if rng.random() < ON_BOTH_SIDES:
                edges.append((rng.choice(sides[1 - i]), kind))
            else:  # it may have kinds below it
                sides[i].insert(place, kind)
        for side in rng.choices(sides, k=self.kinds):
            upper, lower = sorted(rng.choices(range(len(side)), k=2))
            if upper < lower and depth[side[upper]] >= depth[side[lower]]:
                edges.append((side[upper], side[lower]))
        edges += [(person, rng.choice(kinds)) for person in people[2:]]
        ends = (kinds[length - 1], kinds[2 * length - 1])
        return list(dict.fromkeys(edges)), (people[0], people[1]), ends

    def difficulty(self, example: Example) -> Mapping[str, float]:
        """How many sentences the chain has."""
        hops = len(NEXT.findall(example.cot))
        return {"hops": hops} if hops else {}


def sentence(edge: Edge) -> str:
    """An edge in words."""
    subject, kind = edge
    return f"{'' if subject[0].isupper() else 'Every '}{subject} is a {kind}."


def shortest_paths(edges: Sequence[Edge], start: str) -> dict[str, list[list[Edge]]]:
    """All shortest paths from ``start`` to each node that can be reached, as lists of edges."""
    leaving: dict[str, list[Edge]] = {}
    for edge in edges:
        leaving.setdefault(edge[0], []).append(edge)
    found: dict[str, list[list[Edge]]] = {start: [[]]}
    border = [start]
    while border:
        further: dict[str, list[list[Edge]]] = {}
        for node in border:
            for edge in leaving.get(node, []):
                if edge[1] not in found:
                    further.setdefault(edge[1], []).extend([*p, edge] for p in found[node])
        found |= further
        border = list(further)
    return found


def example_from_row(row: Mapping[str, Any]) -> Example:
    """The example in a row of the published files: question, steps, answer.

    Raises:
        ValueError: a part is missing or no text.
    """
    steps = " ".join(text_of(step, "step") for step in row["steps"])
    return example_of(row["question"], steps, row["answer"])
