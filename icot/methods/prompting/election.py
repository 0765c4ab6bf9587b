"""Self-consistency of a prompted model: its texts for a question vote (arXiv 2203.11171).

    "A: ... #### 1,234"     votes for 1234
    "1234"                  too: without a mark, for a number or what else the task finds in it
    "The answer is small"   for all of it, but only where no chain is asked for
    a text that is cut      for nothing

Who wins: ``icot.inference.voting``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from icot.evaluation.votes import vote_figures
from icot.inference.completions import Completion
from icot.inference.predictor import Vote
from icot.inference.voting import answer_in, count_votes
from icot.methods.prompting.few_shot import AnyPrompt, judge, number_in
from icot.methods.prompting.questions import Questions, has_chain
from icot.tasks.answers import ANSWER_MARK
from icot.tasks.base import Task


@dataclass(frozen=True)
class Election:
    """The vote on each question.

    Attributes:
        chosen: the first text with the answer that wins; the first of all where nobody votes.
        voted: whether anybody does.
        figures: of ``icot.evaluation.votes``.
    """

    chosen: list[Completion]
    voted: list[bool]
    figures: dict[str, Any]


def hold_election(
    questions: Questions, written: Sequence[Completion], prompt: AnyPrompt
) -> Election:
    """Let the texts vote.

    Args:
        questions: that were asked.
        written: as many texts for each question, in their order.
        prompt: that asked.
    """
    task, chain, strict = questions.task, has_chain(prompt), prompt.comparison == "strict"

    def is_correct(answer: str, right: str) -> bool:
        found = judge(answer, right, task, chain)
        return found.strict if strict else found.numeric

    n = len(written) // len(questions.asked)
    ballots = [
        Vote(None if one.truncated else answer_of(one.text, task, chain, strict), one.logprob or 0)
        for one in written
    ]
    votes = [ballots[start : start + n] for start in range(0, len(ballots), n)]
    winners = [count_votes(of_one) for of_one in votes]
    first = [0 if winner is None else winner.first for winner in winners]
    return Election(
        chosen=[written[i * n + number] for i, number in enumerate(first)],
        voted=[winner is not None for winner in winners],
        figures=vote_figures(votes, [one.answer for one in questions.asked], is_correct),
    )


def answer_of(text: str, task: Task, chain: bool, strict: bool) -> str | None:
    """The answer that a text votes for, with a mark; None without one.

    Args:
        text: what the model wrote.
        task: finds answers that are no numbers.
        chain: whether the text should have a chain.
        strict: tell answers apart by characters; else each has one form, ``$1,234.00`` is 1234.
    """
    _, mark, behind = text.rpartition(ANSWER_MARK)
    answer = behind.strip()
    marked = f"{ANSWER_MARK} {answer}"
    number = number_in(answer)
    if number is not None:
        found: str | None = f"{ANSWER_MARK} {number}"
    else:
        found = answer_in(answer if chain and not mark else marked, task.extract_answer)
    return marked if strict and found is not None else found
