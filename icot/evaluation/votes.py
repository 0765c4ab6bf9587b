"""What a vote is worth: accuracy by the number of votes, ties, outputs without an answer."""

from collections.abc import Callable, Sequence
from typing import Any

from icot.inference.predictor import Vote
from icot.inference.voting import count_votes

COUNTS = (1, 5, 10, 20, 30)  # of arXiv 2306.14050, Table 3b


def vote_figures(
    votes: Sequence[Sequence[Vote]],
    targets: Sequence[str],
    is_correct: Callable[[str, str], bool],
) -> dict[str, Any]:
    """Figures by name; all are shares.

    Args:
        votes: [n] the votes of each example, as many for each.
        targets: [n] the correct outputs.
        is_correct: judges an answer, by the correct output.

    Returns:
        ``accuracy_by_votes`` of the majority of the first so many votes, ``accuracy_of_one`` of a
        single sample on average, ``any_right`` of the examples with a right vote, ``ties`` of all
        votes, ``unparsed`` of the outputs, and ``without_a_vote`` of the examples.
    """
    n, total = len(votes), len(votes[0])
    right = [
        [v.answer is not None and is_correct(v.answer, target) for v in of_one]
        for of_one, target in zip(votes, targets, strict=True)
    ]
    by_votes = {}
    for count in sorted({*(c for c in COUNTS if c < total), total}):
        winners = [count_votes(of_one[:count]) for of_one in votes]
        by_votes[str(count)] = (
            sum(w is not None and right[i][w.first] for i, w in enumerate(winners)) / n
        )
    return {
        "accuracy_by_votes": by_votes,
        "accuracy_of_one": sum(map(sum, right)) / (n * total),
        "any_right": sum(map(any, right)) / n,
        "ties": sum(w is not None and w.is_tie for w in winners) / n,
        "unparsed": sum(v.answer is None for of_one in votes for v in of_one) / (n * total),
        "without_a_vote": sum(w is None for w in winners) / n,
    }
