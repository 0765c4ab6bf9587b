"""Which samples of a corpus to train on: pure functions of the corpus, the settings and a seed.

    correct            the answer is right
    dedup              a rationale and answer of one question count once
    random             k of each question
    diversity          one of each of k clusters of each question's rationales
    likelihood         the k that the teacher thinks most probable, per token
    open_endedness     more of questions about which the teacher says many different things

Source: section 4 of arXiv 2306.14050; the order of the lines in a file plays no role.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

import numpy as np
from scipy.cluster.hierarchy import cut_tree, linkage

from icot.errors import DataError
from icot.methods.scotd.corpus import Sample
from icot.methods.scotd.embeddings import Embed, count_words, words_of

QUINTILES = 5


@dataclass(frozen=True)
class Budget:
    """Arguments of the filters that choose so many of each question.

    Attributes:
        keep: k, the samples of a question; of ``open_endedness`` on average.
        seed: of what is drawn.
        whole: the corpus before any filter.
        embed: what ``diversity`` compares.
    """

    keep: int
    seed: int
    whole: Sequence[Sample]
    embed: Embed = count_words


Filter = Callable[[Sequence[Sample], Budget], list[Sample]]


def by_question(samples: Iterable[Sample]) -> list[list[Sample]]:
    """The samples of each question, both in order."""
    ordered = sorted(samples, key=lambda s: s.key)
    return [list(group) for _, group in groupby(ordered, key=lambda s: s.index)]


def correct(samples: Iterable[Sample]) -> list[Sample]:
    """Those with the right answer."""
    return [s for of_one in by_question(samples) for s in of_one if s.correct]


def dedup(samples: Iterable[Sample]) -> list[Sample]:
    """The first of each question's equal rationales with equal answers."""
    kept: dict[tuple[int, str, str | None], Sample] = {}
    for sample in sorted(samples, key=lambda s: s.key):
        kept.setdefault((sample.index, sample.rationale, sample.prediction), sample)
    return list(kept.values())


def random(samples: Sequence[Sample], budget: Budget) -> list[Sample]:
    """Some of each question, drawn without replacement."""
    return [s for of_one in by_question(samples) for s in _draw(of_one, budget.keep, budget.seed)]


def diversity(samples: Sequence[Sample], budget: Budget) -> list[Sample]:
    """One sample of each cluster; the clusters are those of average linkage, cut to ``keep``."""
    kept = []
    for of_one in by_question(samples):
        if len(of_one) > budget.keep:
            labels = _cluster(budget.embed([s.rationale for s in of_one]), budget.keep)
            clusters = [
                [s for s, label in zip(of_one, labels, strict=True) if label == number]
                for number in range(budget.keep)
            ]
            drawn = [_draw(cluster, 1, budget.seed)[0] for cluster in clusters]
            of_one = sorted(drawn, key=lambda s: s.key)
        kept += of_one
    return kept


def likelihood(samples: Sequence[Sample], budget: Budget) -> list[Sample]:
    """The most probable ones of each question by log-probability per token; ties to the earlier.

    Raises:
        DataError: a sample has no log-probability.
    """
    kept = []
    for of_one in by_question(samples):
        best = sorted(of_one, key=lambda s: -_per_token(s))[: budget.keep]
        kept += sorted(best, key=lambda s: s.key)
    return kept


def open_endedness(samples: Sequence[Sample], budget: Budget) -> list[Sample]:
    """1, 3, 5, 7 or 9 of a question, by the fifth that it belongs to; or as many times keep / 5.

    Questions are ranked by the number of different pairs of words over all their samples, those
    that an earlier filter has dropped included; ties by index.
    """
    pairs = {of_one[0].index: _pairs(of_one) for of_one in by_question(budget.whole)}
    questions = by_question(samples)
    ranked = sorted(questions, key=lambda of_one: (pairs[of_one[0].index], of_one[0].index))
    kept = []
    for rank, of_one in enumerate(ranked):
        fifth = rank * QUINTILES // len(ranked)
        count = max(1, round(budget.keep * (2 * fifth + 1) / QUINTILES))
        kept += _draw(of_one, count, budget.seed)
    return sorted(kept, key=lambda s: s.key)


BUDGETED: Mapping[str, Filter] = {
    "random": random,
    "diversity": diversity,
    "likelihood": likelihood,
    "open_endedness": open_endedness,
}


def _draw(of_one: Sequence[Sample], count: int, seed: int) -> list[Sample]:
    """So many samples of a question, or all if there are fewer, in order.

    Each sample has a number of its own, and the smallest win: what else is there does not matter.
    """
    if len(of_one) <= count:
        return list(of_one)
    drawn = sorted(of_one, key=lambda s: np.random.default_rng([seed, *s.key]).random())[:count]
    return sorted(drawn, key=lambda s: s.key)


def _cluster(vectors: np.ndarray, count: int) -> np.ndarray:
    """The cluster [n] of each vector [n, D], by cosine distance; an empty one is like no other."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = vectors / np.where(lengths > 0, lengths, 1)
    distances = np.clip(1 - unit @ unit.T, 0, None)
    above = distances[np.triu_indices(len(vectors), k=1)].round(12)  # equal texts: exactly 0
    labels: np.ndarray = cut_tree(linkage(above, "average"), n_clusters=count)[:, 0]
    return labels


def _per_token(sample: Sample) -> float:
    if sample.logprob is None or not sample.logprob_tokens:
        raise DataError(
            f"filter likelihood: sample {sample.sample} of question {sample.index} has no "
            "log-probability. Choose another task.filter, or let a model on this machine give "
            "them: python -m icot.sample rescore=CORPUS teacher=model out=..."
        )
    return sample.logprob / sample.logprob_tokens


def _pairs(of_one: Sequence[Sample]) -> int:
    """The number of different pairs of neighbouring words in a question's rationales."""
    found: set[tuple[str, str]] = set()
    for sample in of_one:
        words = words_of(sample.rationale)
        found.update(pairwise(words))
    return len(found)


@dataclass(frozen=True)
class Statistics:
    """A corpus in numbers.

    Attributes:
        questions, samples: how many there are.
        right: share of the samples with the right answer; None without labels.
        distinct: different rationales of a question, on average.
        words: of a rationale, on average.
    """

    questions: int
    samples: int
    right: float | None
    distinct: float
    words: float

    @classmethod
    def of(cls, samples: Sequence[Sample]) -> "Statistics":
        """The numbers of some samples, of which there is at least one."""
        questions = by_question(samples)
        judged = [s.correct for s in samples if s.correct is not None]
        return cls(
            questions=len(questions),
            samples=len(samples),
            right=sum(judged) / len(judged) if judged else None,
            distinct=float(np.mean([len({s.rationale for s in q}) for q in questions])),
            words=float(np.mean([len(words_of(s.rationale)) for s in samples])),
        )

    def __str__(self) -> str:
        share = "" if self.right is None else f", {self.right:.1%} right"
        return (
            f"{self.samples:,} samples of {self.questions:,} questions{share}, "
            f"{self.samples / self.questions:.2f} of a question, {self.distinct:.2f} of them "
            f"different, {self.words:.1f} words each"
        )
