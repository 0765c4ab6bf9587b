"""N-digit by N-digit multiplication with its long-multiplication chain (arXiv 2405.14838, 4.1).

Digits are written least significant first, separated by spaces; 2365 x 4347 is the line

    5 6 3 2 * 7 4 3 4||5 5 5 6 1 + 0 0 6 4 9 0 ( 5 5 1 1 1 1 ) + ... #### 5 5 6 0 8 2 0 1

The chain has one partial product per digit of the multiplier; partial i is a * b_i * 10^i in N+1+i
digits. With ``chain="long"`` every partial except the first and the last is followed by the running
sum in parentheses, in as many digits. ``chain="short"`` is the same without the i zeros that the
partial begins with. With ``chain="tree"`` (Appendix C) the partials come first,
then each level of a binary tree of sums in parentheses: neighbours are added in pairs, an odd one
moves up without being written, and the root is the answer. A node that ends at partial j has N+1+j
digits. The answer has exactly 2N digits.

All lines of one configuration have the same length and layout, so a chunk of lines is computed with
arithmetic on digit columns, for operands of any size.
"""

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from icot.tasks.answers import ANSWER_MARK
from icot.tasks.base import SPLITS, Example, Split, Task
from icot.tasks.carries import QUESTION, difficulty, number_of, quantities
from icot.tasks.prose import long_multiplication

Digits = NDArray[np.int64]  # [n, width], least significant first
Chain = Literal["long", "short", "tree"]
Parts = list[Digits | str]  # numbers and signs, one after the other

TRAIN_SIZE, HELD_OUT_SIZE = 808_000, 1_000  # the published splits
CHUNK = 20_000
FEW_DIGITS, BLOCK = 6, 50_000  # digits of both operands; questions drawn at once


def example(a: int, b: int, digits: int, chain: Chain = "long") -> Example:
    """The published text for ``a`` times ``b``, each of exactly ``digits`` digits.

    Raises:
        ValueError: an operand does not have exactly ``digits`` digits, or the chain is unknown.
    """
    _check(digits, chain)
    for operand in (a, b):
        if not 10 ** (digits - 1) <= operand < 10**digits:
            raise ValueError(f"{operand} does not have exactly {digits} digits")
    return _write(_digits_of(a, digits), _digits_of(b, digits), chain)[0]


class Multiplication(Task):
    """Multiplication of two numbers of exactly ``digits`` digits, drawn uniformly.

    Args:
        digits: N, at least 2.
        chain: ``long`` (running sums, the main experiments), ``short`` or ``tree`` (Appendix C).
        train_size, valid_size, test_size: examples per split; None is the published size, or less
            if there are too few questions (2 digits). No two examples of any split share a
            question.
        seed: of the operands.
        easy_share: this share of the training questions gets an easier multiplier: its leading
            digit and 0 to N-1 of its other digits stay, each number equally often, and the rest
            become 0. Such questions may repeat; none is a held-out one.
        easy_held_out: the same share of the held-out questions, which are uniform otherwise.

    Raises:
        ValueError: digits, chain, sizes or shares are not valid.
    """

    def __init__(
        self,
        digits: int,
        chain: Chain = "long",
        train_size: int | None = None,
        valid_size: int | None = None,
        test_size: int | None = None,
        seed: int = 3456,
        easy_share: float = 0.0,
        easy_held_out: float = 0.0,
    ) -> None:
        _check(digits, chain)
        check_shares(easy_share, easy_held_out)
        self.name = f"mult{digits}" + ("" if chain == "long" else f"-{chain}")
        self.digits, self.chain, self.seed = digits, chain, seed
        self.easy_share, self.easy_held_out = easy_share, easy_held_out
        questions = (9 * 10 ** (digits - 1)) ** 2
        held_out = min(HELD_OUT_SIZE, questions // 10)
        valid = held_out if valid_size is None else valid_size
        test = held_out if test_size is None else test_size
        train = min(TRAIN_SIZE, questions - valid - test) if train_size is None else train_size
        if min(train, valid, test) < 0 or train + valid + test > questions:
            raise ValueError(
                f"{digits} digits make {questions} questions; "
                f"train {train}, valid {valid} and test {test} do not fit into them"
            )
        self._sizes: dict[Split, int] = {"train": train, "valid": valid, "test": test}

    def size(self, split: Split) -> int:
        """The number of examples in ``split``."""
        return self._sizes[split]

    def fingerprint(self, split: Split) -> Mapping[str, Any]:
        """Digits, chain, seed, sizes and shares of easy questions: they determine every line."""
        easy = {"easy_share": self.easy_share} if self.easy_share and split == "train" else {}
        if self.easy_held_out:
            easy["easy_held_out"] = self.easy_held_out
        return {
            "task": "multiplication",
            "version": 1,
            "digits": self.digits,
            "chain": self.chain,
            "seed": self.seed,
            "sizes": [self._sizes[s] for s in SPLITS],
            "split": split,
            **easy,
        }

    def symbols(self) -> tuple[str, ...]:
        """The ten digits, the signs and the answer mark."""
        return (*"0123456789*+()", ANSWER_MARK)

    def difficulty(self, example: Example) -> Mapping[str, float]:
        """Carries, and the size of the operands."""
        return difficulty(example.question)

    def quantities(self, example: Example) -> Mapping[str, float]:
        """Digits of running sums, and carries."""
        return quantities(example.question)

    def prose(self, example: Example) -> Example:
        """With the digits in ordinary order, and the chain in words."""
        match = QUESTION.fullmatch(example.question)
        if match is None:
            return example
        a, b = (number_of([int(digit) for digit in text.split()]) for text in match.groups())
        return long_multiplication(a, b)

    def chunks(self, split: Split) -> Iterator[list[Example]]:
        """The examples of ``split``, 20,000 at a time."""
        a, b = self.operands(split)
        for start in range(0, len(a), CHUNK):
            rows = slice(start, start + CHUNK)
            yield _write(a[rows].astype(np.int64), b[rows].astype(np.int64), self.chain)

    def operands(self, split: Split) -> tuple[NDArray[np.int8], NDArray[np.int8]]:
        """Both operands of every example of ``split``: digits [n, N], least significant first."""
        both = (self.digits, self.digits)
        shares = (self.easy_share, self.easy_held_out)
        rows = draw_questions(split, both, self._sizes, self.seed, *shares)
        return rows[:, : self.digits], rows[:, self.digits :]


def draw_questions(
    split: Split,
    digits: tuple[int, int],
    sizes: Mapping[Split, int],
    seed: int,
    easy_share: float,
    easy_held_out: float,
) -> NDArray[np.int8]:
    """The questions of ``split`` as the digits [n, n1 + n2] of both operands.

    The held-out splits are drawn first, so that they do not depend on the training set's size.

    Raises:
        ValueError: easy held-out questions have taken too many of the training questions.
    """
    held_out, train = sizes["valid"] + sizes["test"], sizes["train"]
    spare = held_out if easy_held_out else 0
    drawn = _draw(digits, min(held_out + train + spare, number_of_questions(digits)), seed)
    valid, test, others = np.split(drawn, [sizes["valid"], held_out])
    if easy_held_out:
        valid = _ease(valid, drawn[:0], easy_held_out, seed, digits[0])
        test = _ease(test, valid, easy_held_out, seed, digits[0])
    if split != "train":
        return valid if split == "valid" else test
    taken = np.concatenate([valid, test])
    if easy_held_out:
        texts = set(_texts(taken))
        others = others[[row not in texts for row in _texts(others)]]
        if len(others) < train:
            raise ValueError(f"with easy_held_out only {len(others)} training questions are left")
    others = others[:train]
    return _ease(others, taken, easy_share, seed, digits[0]) if easy_share else others


def number_of_questions(digits: tuple[int, int]) -> int:
    """How many pairs of numbers have exactly so many digits."""
    return 81 * int(10 ** (sum(digits) - 2))


def check_shares(*shares: float) -> None:
    """Raises:
    ValueError: one of them is not from 0 to 1.
    """
    if not all(0 <= share <= 1 for share in shares):
        raise ValueError("easy_share and easy_held_out must be from 0 to 1")


def _check(digits: int, chain: str) -> None:
    if digits < 2:
        raise ValueError(f"digits must be at least 2, not {digits}")
    if chain not in get_args(Chain):
        raise ValueError(f"chain must be one of {', '.join(get_args(Chain))}, not {chain!r}")


def _digits_of(number: int, width: int) -> Digits:
    return np.array([[int(d) for d in reversed(str(number).zfill(width))]], dtype=np.int64)


@cache
def _draw(digits: tuple[int, int], count: int, seed: int) -> NDArray[np.int8]:
    """Draw ``count`` different questions uniformly: digits [count, n1 + n2] of both operands.

    A larger count starts with the questions of a smaller one.
    """
    if sum(digits) <= FEW_DIGITS:  # few enough questions to shuffle them all
        order = np.random.default_rng(seed).permutation(number_of_questions(digits))[:count]
        operands = np.divmod(order, 9 * 10 ** (digits[1] - 1))
        columns = [
            (10 ** (n - 1) + x)[:, None] // 10 ** np.arange(n) % 10
            for n, x in zip(digits, operands, strict=True)
        ]
        return np.concatenate(columns, axis=1).astype(np.int8)
    rng, width = np.random.default_rng(seed), sum(digits)
    blocks: list[NDArray[np.int8]] = []
    drawn = np.empty((0, width), dtype=np.int8)
    while len(drawn) < count:  # drop the few repetitions and draw again
        for _ in range(1 + (count - len(drawn)) // BLOCK):
            block = rng.integers(0, 10, size=(BLOCK, width), dtype=np.int8)
            block[:, [digits[0] - 1, -1]] = rng.integers(1, 10, size=(BLOCK, 2), dtype=np.int8)
            blocks.append(block)
        drawn = np.concatenate(blocks)
        rows = drawn.view(np.dtype((np.void, width))).ravel()
        _, indices = np.unique(rows, return_index=True)
        drawn = drawn[np.sort(indices)]
    return drawn[:count].copy()  # a view would keep the whole block


def _ease(
    rows: NDArray[np.int8], held_out: NDArray[np.int8], share: float, seed: int, first: int
) -> NDArray[np.int8]:
    """The questions ``rows`` [n, n1 + n2], a ``share`` with fewer non-zero multiplier digits.

    A row whose easier question is held out stays as it is. More rows begin with the same ones.
    ``first`` is n1, the digits of the multiplicand.
    """
    others = rows.shape[1] - first - 1  # the multiplier's digits below its leading one
    draws = np.random.default_rng([seed, 1]).random((len(rows), 2 + others))
    kept = (draws[:, 1] * (others + 1)).astype(np.int64)
    rank = draws[:, 2:].argsort(axis=1).argsort(axis=1)
    eased = rows.copy()
    eased[:, first:-1][rank >= kept[:, None]] = 0
    taken = set(_texts(held_out))
    allowed = [row not in taken for row in _texts(eased)]
    return np.where(((draws[:, 0] < share) & allowed)[:, None], eased, rows)


def _texts(rows: NDArray[np.int8]) -> list[bytes]:
    return [row.tobytes() for row in rows]


def _carry(columns: Digits) -> Digits:
    """Turn column sums [n, width] into digits by moving the carries up."""
    digits = columns.copy()
    for i in range(digits.shape[1] - 1):
        digits[:, i + 1] += digits[:, i] // 10
        digits[:, i] %= 10
    assert (digits[:, -1] < 10).all()
    return digits


def _add(x: Digits, y: Digits) -> Digits:
    """x + y, with as many digits as ``y``, the wider one."""
    columns = y.copy()
    columns[:, : x.shape[1]] += x
    return _carry(columns)


def _partial(a: Digits, b: Digits, i: int) -> Digits:
    """a * b_i * 10^i in N+1+i digits."""
    columns = np.zeros((len(a), a.shape[1] + 1 + i), dtype=np.int64)
    columns[:, i:-1] = a * b[:, i : i + 1]
    return _carry(columns)


def _write(a: Digits, b: Digits, chain: Chain) -> list[Example]:
    """The examples for operands a [n, n1] and b [n, n2]."""
    cot, total = work_out(a, b, chain)
    texts = (write_parts([a, "*", b]), write_parts(cot), write_parts([total]))
    return [Example(*parts) for parts in zip(*texts, strict=True)]


def work_out(a: Digits, b: Digits, chain: Chain) -> tuple[Parts, Digits]:
    """The chain, and the product in n1 + n2 digits, for operands a [n, n1] and b [n, n2]."""
    partials = [_partial(a, b, i) for i in range(b.shape[1])]
    # The total has as many digits as the last partial.
    return _tree_chain(partials) if chain == "tree" else _sums(partials, chain)


def _sums(partials: list[Digits], chain: Chain) -> tuple[Parts, Digits]:
    running, cot = partials[0], Parts([partials[0]])
    for i, partial in enumerate(partials[1:], start=1):
        running = _add(running, partial)
        cot += ["+", partial[:, i:] if chain == "short" else partial]
        if i < len(partials) - 1:
            cot += ["(", running, ")"]
    return cot, running


def _tree_chain(partials: list[Digits]) -> tuple[Parts, Digits]:
    level, cot = partials, _join_with_plus(partials)
    while len(level) > 1:
        odd = [level[-1]] if len(level) % 2 else []
        sums = [_add(x, y) for x, y in zip(level[::2], level[1::2], strict=False)]
        level = sums + odd
        if len(level) > 1:
            cot += ["(", *_join_with_plus(sums), ")"]
    return cot, level[0]


def _join_with_plus(numbers: list[Digits]) -> Parts:
    parts = Parts([numbers[0]])
    for number in numbers[1:]:
        parts += ["+", number]
    return parts


def write_parts(parts: Parts) -> list[str]:
    """One line of space-separated one-character symbols for each row."""
    n = next(len(p) for p in parts if not isinstance(p, str))
    columns = [
        np.full((n, 1), ord(p), dtype=np.uint8)
        if isinstance(p, str)
        else (p + ord("0")).astype(np.uint8)
        for p in parts
    ]
    symbols = np.concatenate(columns, axis=1)
    text = np.full((n, 2 * symbols.shape[1]), ord(" "), dtype=np.uint8)
    text[:, ::2] = symbols
    width = text.shape[1]
    whole = text.tobytes().decode("ascii")
    return [whole[i : i + width - 1] for i in range(0, len(whole), width)]
