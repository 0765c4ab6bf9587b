"""What long multiplication takes: carries, digits of running sums, and the size of the operands.

The text of a question has the least significant digit first, 2365 x 4347 is ``5 6 3 2 * 7 4 3 4``.
"""

import re
from math import isqrt

NUMBER = r"[0-9](?: [0-9]){0,1999}"  # Python converts texts of at most 4,300 digits
QUESTION = re.compile(rf"({NUMBER}) \* ({NUMBER})")


def difficulty(question: str) -> dict[str, float]:
    """The difficulty of a question; empty if the text is not a multiplication in the format.

        >>> difficulty("2 1 * 9 1")  # 12 x 19: 108 carries twice, 120 and their sum never
        {'carries': 2, 'operand size': 15}

    ``carries`` counts the digits of partial products and running sums that carry into the next;
    ``operand size`` is the geometric mean of the operands, rounded down.
    """
    match = QUESTION.fullmatch(question)
    if match is None:
        return {}
    a, b = ([int(d) for d in text.split()] for text in match.groups())
    carries, total = 0, 0
    x = number_of(a)
    for i, digit in enumerate(b):
        carry = 0
        for d in a:
            carry = (d * digit + carry) // 10
            carries += carry > 0
        partial = x * digit * 10**i
        carries += _carries_of_sum(total, partial)
        total += partial
    return {"carries": carries, "operand size": isqrt(x * number_of(b))}


def quantities(question: str) -> dict[str, float]:
    """The digits of running sums and all carries; empty as in ``difficulty``.

        >>> quantities("2 1 * 9 1")["sum 2 digit 2"]  # 108 + 120 = 228
        2

    Digits are counted from the least significant one. ``product 2 carry 1`` is what the first digit
    of the second partial product, without the zeros before it, carries into the next;
    ``sum 2 carry 1`` the same where that partial product is added. The last sum is the answer.
    """
    match = QUESTION.fullmatch(question)
    if match is None:
        return {}
    a, b = ([int(d) for d in text.split()] for text in match.groups())
    found: dict[str, float] = {}
    total = [0] * (len(a) + len(b))
    for i, digit in enumerate(b):
        carry, partial = 0, [0] * i
        for j, d in enumerate(a):
            carry, rest = divmod(d * digit + carry, 10)
            partial.append(rest)
            found[f"product {i + 1} carry {j + 1}"] = carry
        partial.append(carry)
        carry = 0
        for j, d in enumerate(partial):
            carry, total[j] = divmod(total[j] + d + carry, 10)
            if i > 0:
                found[f"sum {i + 1} digit {j + 1}"] = total[j]
                found[f"sum {i + 1} carry {j + 1}"] = carry
    return found


def number_of(digits: list[int]) -> int:
    """The number with these digits, least significant first."""
    return int("".join(map(str, reversed(digits))))


def _carries_of_sum(x: int, y: int) -> int:
    """The number of carries in x + y: each carry lowers the digit sum by nine."""
    difference = sum(map(int, f"{x}{y}")) - sum(map(int, str(x + y)))
    return difference // 9
