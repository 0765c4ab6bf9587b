"""Multiplication as people write it, for models that icot has not trained.

    >>> long_multiplication(5646, 1576).cot.partition(" 3)")[0]
    '1): 6 * 5646 = 33876 (partial sum 0 + 33876 = 33876)
     2): 70 * 5646 = 395220 (partial sum 33876 + 395220 = 429096)'

(on one line). Most significant digit first, no blanks between digits, no leading zeros. A digit of
zero has a step of its own. Source: the prompts of arXiv 2405.14838's GPT-4 rows
(github.com/da03/implicit_chain_of_thought, gpt4_baselines).
"""

from icot.tasks.base import Example


def long_multiplication(a: int, b: int) -> Example:
    """``a`` times ``b`` with its running sums."""
    steps, total = [], 0
    for place, digit in enumerate(reversed(str(b))):
        factor = int(digit) * 10**place
        product = factor * a
        after = total + product
        step = f"{factor} * {a} = {product} (partial sum {total} + {product} = {after})"
        steps.append(f"{place + 1}): {step}")
        total = after
    return Example(f"{a} * {b}", " ".join(steps), str(total))
