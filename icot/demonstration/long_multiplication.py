"""Multiplication as people write it: most significant digit first, a number a line.

A digit that need not be written is a dot, a wrong one is marked:

      123
    × 456
      ···    123 × 6
    + 615·   123 × 50
    = 6888   sum
"""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import TypeGuard

from icot.tasks.answers import ANSWER_MARK
from icot.tasks.base import Example, Task
from icot.tasks.mixed_digits import MixedMultiplication
from icot.tasks.multiplication import Multiplication

SIGNS = "+()"
GONE, MISSING = "·", "_"  # a digit that need not be written, and one that should have been


def is_product(task: Task) -> TypeGuard[Multiplication | MixedMultiplication]:
    """Whether a task's questions are multiplications."""
    return isinstance(task, Multiplication | MixedMultiplication)


def as_people_write(answer: str, task: Task) -> str:
    """An answer as people write it."""
    digits = answer.split()
    if not is_product(task) or not _are_digits(digits):
        return answer.strip() or "nothing"
    return f"{int(''.join(digits if _is_plain(task) else reversed(digits))):,}"


def _are_digits(symbols: Sequence[str]) -> bool:
    return bool(symbols) and all(len(s) == 1 and s in "0123456789" for s in symbols)


def _is_plain(task: Task) -> bool:
    """Whether chain and answer begin with the most significant digit."""
    return isinstance(task, MixedMultiplication) and task.order == "plain"


@dataclass(frozen=True)
class Digit:
    """A place of the layout: what stands there, and its mark (a CSS class) or ""."""

    symbol: str
    mark: str = ""

    @property
    def html(self) -> str:
        """The digit, marked."""
        shown = escape(self.symbol) if len(self.symbol) == 1 else "?"
        return f'<span class="{self.mark}">{shown}</span>' if self.mark else shown


@dataclass(frozen=True)
class Line:
    """A number of the layout.

    Attributes:
        sign: before it.
        digits: most significant first.
        shift: places that it is shifted to the left.
        note: what it is.
    """

    sign: str
    digits: list[Digit]
    shift: int = 0
    note: str = ""

    @property
    def width(self) -> int:
        """Places that it needs."""
        return len(self.digits) + self.shift


def lay_out(
    task: Task, asked: Example, target: str, chain: Sequence[str], answer: Sequence[str], done: bool
) -> str:
    """The lines, with what a model has written in their places.

    Args:
        task: multiplication.
        asked: the example, with its whole chain.
        target: the correct output at the model's stage.
        chain, answer: symbols written so far.
        done: nothing more will be written.
    """
    assert is_product(task)
    plain_operands = isinstance(task, MixedMultiplication) and task.order != "reversed"
    a, b = (
        "".join(x.split() if plain_operands else reversed(x.split()))
        for x in asked.question.split("*")
    )
    whole, kept = asked.cot.split(), target.partition(ANSWER_MARK)[0].split()
    begin = 0 if whole[: len(kept)] == kept else len(whole) - len(kept)
    ended = done or bool(answer)
    written = [_place(j - begin, s, chain, len(kept), ended) for j, s in enumerate(whole)]
    middle = _lines(whole, written, task, (a.lstrip("0"), b.lstrip("0")))
    result = asked.answer.split()
    product = [_place(j, s, answer, len(result), done) for j, s in enumerate(result)]
    total = Line("=", _faint_zeros(product if _is_plain(task) else product[::-1]))
    top = [Line("", [Digit(d) for d in a]), Line("×", [Digit(d) for d in b])]
    width = max(line.width for line in (*top, *middle, total))
    rule = "─" * (width + 2)
    rows = [*(_row(line, width) for line in top), rule, *(_row(line, width) for line in middle)]
    rows += [*([rule] if middle else []), _row(total, width)]
    return f'<pre class="sum" aria-hidden="true">{chr(10).join(rows)}</pre>'


def _place(i: int, right: str, written: Sequence[str], kept: int, ended: bool) -> Digit:
    """What stands at place ``i`` of the ``kept`` symbols to be written."""
    if not 0 <= i < kept:
        return Digit(GONE, "gone")
    if i < len(written):
        return Digit(written[i], "" if written[i] == right else "bad")
    return Digit(MISSING, "bad") if ended else Digit(" ")


def _lines(
    whole: Sequence[str], written: Sequence[Digit], task: Task, operands: tuple[str, str]
) -> list[Line]:
    """The numbers of a chain, one a line."""
    a, b = operands
    assert is_product(task)
    lines: list[Line] = []
    partials, inside, sign, digits = 0, False, "", list[Digit]()

    def end_number() -> None:
        nonlocal partials, digits
        if digits:
            ordered = digits if _is_plain(task) else digits[::-1]
            note, shift = "sum", 0
            if not inside:
                note = f"{a} × {int(b[-1 - partials] + '0' * partials)}"
                shift = partials * (task.chain == "short")
                partials += 1
            lines.append(Line(sign, _faint_zeros(ordered), shift, note))
            digits = []

    for right, digit in zip(whole, written, strict=True):
        if right not in SIGNS:
            digits.append(digit)
            continue
        end_number()
        inside = right == "(" or (inside and right != ")")
        sign = "=" if right == "(" else "+"
    end_number()
    return lines


def _faint_zeros(digits: Sequence[Digit]) -> list[Digit]:
    """The digits of a number with its leading zeros in a faint colour."""
    faint = list(digits)
    for i, digit in enumerate(faint[:-1]):
        if digit.symbol != "0" or digit.mark:
            break
        faint[i] = Digit("0", "faint")
    return faint


def _row(line: Line, width: int) -> str:
    before = " " * (width - line.width)
    number = "".join(digit.html for digit in line.digits) + " " * line.shift
    note = f'  <span class="note">{escape(line.note)}</span>' if line.note else ""
    return f"{line.sign or ' '} {before}{number}{note}"
