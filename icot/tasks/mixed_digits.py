"""Multiplication of numbers of 1 to N digits, mixed (arXiv 2309.03241, 2311.14737).

The text is that of ``icot.tasks.multiplication``, for any two numbers of digits; 7 x 19 and 19 x 7:

    7 * 9 1||3 6 + 0 7 0 #### 3 3 1
    9 1 * 7||3 3 1 #### 3 3 1

Partial product i of numbers with n1 and n2 digits has n1+1+i digits, the answer n1+n2. Published:
MathGLM's rows of Table 2 (arXiv 2405.14838) and the authors' demo are models of mixed digits.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any, Literal, get_args

import numpy as np

from icot.tasks.answers import ANSWER_MARK
from icot.tasks.base import SPLITS, Example, Split, Task
from icot.tasks.carries import QUESTION, difficulty, quantities
from icot.tasks.multiplication import (
    CHUNK,
    Chain,
    Digits,
    Parts,
    check_shares,
    draw_questions,
    number_of_questions,
    work_out,
    write_parts,
)
from icot.tasks.prose import long_multiplication

Order = Literal["reversed", "plain", "reversed_product"]
TRAIN_SIZE, HELD_OUT_SIZE = 808_000, 1_000
ROUNDING = 1e-6  # by which shares may miss 1
DIGITS = "digits"  # the measure of difficulty by which an evaluation shows its grid


class MixedMultiplication(Task):
    """Each pair of numbers of digits has its share of the questions, in a mixed order.

    Args:
        min_digits, max_digits: of each operand.
        pairs: ``all`` pairs of numbers of digits, or ``square``: N x N only.
        weights: ``pairs`` gives each pair equally many questions; ``questions`` gives them in
            proportion to how many there are. A pair that has too few leaves its rest to the others.
        chain: as in ``Multiplication``.
        order: ``reversed``, least significant digit first throughout; ``plain``, most significant
            first; ``reversed_product``, plain operands and everything else reversed.
        padding: write operands with zeros up to ``max_digits``, and the answer up to twice that.
        curriculum: phases of an epoch, one after another: the most digits of a phase's operands,
            and its share of the training examples (arXiv 2309.03241, section 3); None mixes all.
        train_size, valid_size, test_size: examples of each split, over all pairs; None is 808,000,
            1,000 and 1,000, or less if there are too few questions. A held-out split has at most a
            tenth of a pair's questions.
        seed: of the operands and of the order.
        easy_share, easy_held_out: as in ``Multiplication``.

    Raises:
        ValueError: an argument is not valid.
    """

    name = "mixed_digits"

    def __init__(
        self,
        min_digits: int = 1,
        max_digits: int = 3,
        pairs: Literal["all", "square"] = "all",
        weights: Literal["pairs", "questions"] = "pairs",
        chain: Chain = "long",
        order: Order = "reversed",
        padding: bool = False,
        curriculum: Sequence[tuple[int, float]] | None = None,
        train_size: int | None = None,
        valid_size: int | None = None,
        test_size: int | None = None,
        seed: int = 3456,
        easy_share: float = 0.0,
        easy_held_out: float = 0.0,
    ) -> None:
        if not 1 <= min_digits <= max_digits:
            raise ValueError("min_digits must be at least 1 and at most max_digits")
        if pairs not in ("all", "square") or weights not in ("pairs", "questions"):
            raise ValueError("pairs must be all or square, and weights pairs or questions")
        if chain not in get_args(Chain) or order not in get_args(Order):
            raise ValueError(
                f"chain must be one of {', '.join(get_args(Chain))}, "
                f"order one of {', '.join(get_args(Order))}"
            )
        check_shares(easy_share, easy_held_out)
        counts = range(min_digits, max_digits + 1)
        self.pairs = [p for p in product(counts, counts) if pairs == "all" or p[0] == p[1]]
        self.weights, self.max_digits, self.chain = weights, max_digits, chain
        self.order, self.padding, self.seed = order, padding, seed
        self.easy_share, self.easy_held_out = easy_share, easy_held_out
        questions = [number_of_questions(pair) for pair in self.pairs]
        weight = [1] * len(questions) if weights == "pairs" else questions
        tenth = [count // 10 for count in questions]
        asked: dict[Split, int | None] = {"valid": valid_size, "test": test_size}
        self.counts: dict[Split, list[int]] = {
            split: shares(HELD_OUT_SIZE if size is None else size, weight, tenth)
            for split, size in asked.items()
        }
        held_out = zip(self.counts["valid"], self.counts["test"], strict=True)
        left = [count - v - t for count, (v, t) in zip(questions, held_out, strict=True)]
        asked["train"] = train_size
        total = sum(shares(train_size or TRAIN_SIZE, weight, left))
        self.curriculum = [*(curriculum or [(max_digits, 1.0)])]
        self._phases = self._divide(total, weight, left)
        self.counts["train"] = [sum(of_pair) for of_pair in zip(*self._phases, strict=True)]
        for split, size in asked.items():
            if size is not None and sum(self.counts[split]) < size:
                raise ValueError(f"there are only {sum(self.counts[split])} {split} questions")

    def _divide(self, total: int, weights: list[int], left: list[int]) -> list[list[int]]:
        """The training examples of each pair in each phase."""
        most = [digits for digits, _ in self.curriculum]
        parts = [share for _, share in self.curriculum]
        if most != sorted(set(most)) or most[-1] != self.max_digits:
            raise ValueError(f"curriculum: the digits must rise to max_digits={self.max_digits}")
        if min(parts) <= 0 or abs(sum(parts) - 1) > ROUNDING:
            raise ValueError("curriculum: the shares must be above 0 and add up to 1")
        ends = [round(total * sum(parts[: i + 1])) for i in range(len(parts))]
        phases = []
        for digits, begin, end in zip(most, [0, *ends], ends, strict=False):
            free = [
                n if max(pair) <= digits else 0 for pair, n in zip(self.pairs, left, strict=True)
            ]
            if sum(free) < end - begin:
                raise ValueError(
                    f"curriculum: {end - begin} examples of at most {digits} digits are wanted, "
                    f"and there are {sum(free)} that have not been used"
                )
            phases.append(shares(end - begin, weights, free))
            left = [n - taken for n, taken in zip(left, phases[-1], strict=True)]
        return phases

    def phases(self) -> Sequence[int]:
        """The examples of each phase of the curriculum."""
        return [sum(counts) for counts in self._phases]

    def size(self, split: Split) -> int:
        """The number of examples in ``split``."""
        return sum(self.counts[split])

    def fingerprint(self, split: Split) -> Mapping[str, Any]:
        """All arguments: they determine every line."""
        return {
            "task": "mixed_digits",
            "version": 1,
            "pairs": self.pairs,
            "max_digits": self.max_digits,
            "chain": self.chain,
            "order": self.order,
            "padding": self.padding,
            "seed": self.seed,
            "counts": [self.counts[s] for s in SPLITS],
            "easy": [self.easy_share, self.easy_held_out],
            "split": split,
            **({"phases": self._phases} if len(self._phases) > 1 else {}),
        }

    def symbols(self) -> tuple[str, ...]:
        """The ten digits, the signs and the answer mark."""
        return (*"0123456789*+()", ANSWER_MARK)

    def difficulty(self, example: Example) -> Mapping[str, float | str]:
        """How many digits the operands have without padding; in reversed order the carries, too."""
        match = QUESTION.fullmatch(example.question)
        if match is None:
            return {}
        n1, n2 = (len(str(number)) for number in self._numbers(match))
        more = difficulty(example.question) if self.order == "reversed" else {}
        return {DIGITS: f"{n1} × {n2}", **more}

    def quantities(self, example: Example) -> Mapping[str, float]:
        """Digits of running sums, and carries, in reversed order."""
        return quantities(example.question) if self.order == "reversed" else {}

    def prose(self, example: Example) -> Example:
        """With the digits in ordinary order, without zeros in front, and the chain in words."""
        match = QUESTION.fullmatch(example.question)
        if match is None:
            return example
        return long_multiplication(*self._numbers(match))

    def _numbers(self, question: re.Match[str]) -> tuple[int, int]:
        step = -1 if self.order == "reversed" else 1
        a, b = (int("".join(text.split()[::step])) for text in question.groups())
        return a, b

    def chunks(self, split: Split) -> Iterator[list[Example]]:
        """The examples of ``split``, 20,000 at a time."""
        questions = [self.operands(split, pair) for pair in self.pairs]
        generator = np.random.default_rng([self.seed, SPLITS.index(split)])
        of_pair = np.concatenate(
            [
                generator.permutation(np.repeat(np.arange(len(self.pairs)), counts))
                for counts in (self._phases if split == "train" else [self.counts[split]])
            ]
        )
        begin = np.zeros(len(self.pairs), dtype=np.int64)
        for start in range(0, len(of_pair), CHUNK):
            part = of_pair[start : start + CHUNK]
            examples: list[Example | None] = [None] * len(part)
            for i in np.unique(part):
                places = np.flatnonzero(part == i)
                a, b = (x[begin[i] : begin[i] + len(places)] for x in questions[i])
                begin[i] += len(places)
                for place, example in zip(places, self.write(a, b), strict=True):
                    examples[place] = example
            yield [example for example in examples if example is not None]

    def operands(self, split: Split, pair: tuple[int, int]) -> tuple[Digits, Digits]:
        """The operands [n, n1] and [n, n2] of a pair's questions, least significant digit first."""
        i = self.pairs.index(pair)
        sizes: dict[Split, int] = {s: self.counts[s][i] for s in SPLITS}
        seed = int(np.random.SeedSequence([self.seed, *pair]).generate_state(1)[0])
        easy = (self.easy_share, self.easy_held_out)
        rows = draw_questions(split, pair, sizes, seed, *easy).astype(np.int64)
        return rows[:, : pair[0]], rows[:, pair[0] :]

    def write(self, a: Digits, b: Digits) -> list[Example]:
        """The examples for operands a [n, n1] and b [n, n2], least significant digit first."""
        cot, answer = work_out(a, b, self.chain)
        question: Parts = [a, "*", b]
        if self.padding:
            question = [_pad(a, self.max_digits), "*", _pad(b, self.max_digits)]
            answer = _pad(answer, 2 * self.max_digits)
        flipped = {"reversed": 0, "reversed_product": 1, "plain": 3}[self.order]
        parts: list[Parts] = [question, cot, [answer]]
        texts = [write_parts(_flip(part) if i < flipped else part) for i, part in enumerate(parts)]
        return [Example(*text) for text in zip(*texts, strict=True)]


def shares(total: int, weights: Sequence[int], most: Sequence[int]) -> list[int]:
    """``total`` in proportion to ``weights``, none above its ``most``.

    What one cannot take goes to the others. The sum is ``total``, or that of ``most`` if it is
    less.
    """
    given = [0] * len(weights)
    left = min(total, sum(most))
    while left:
        free = [i for i in range(len(weights)) if given[i] < most[i]]
        whole = sum(weights[i] for i in free)
        takes = {i: min(left * weights[i] // whole, most[i] - given[i]) for i in free}
        if not any(takes.values()):  # less than one each: to the largest
            ordered = sorted(free, key=lambda i: -weights[i])
            takes = dict.fromkeys(ordered[:left], 1)
        for i, take in takes.items():
            given[i] += take
            left -= take
    return given


def _pad(digits: Digits, width: int) -> Digits:
    return np.pad(digits, ((0, 0), (0, width - digits.shape[1])))


def _flip(parts: Parts) -> Parts:
    """Most significant digit first."""
    return [part if isinstance(part, str) else part[:, ::-1] for part in parts]
