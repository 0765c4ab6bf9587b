"""Self-consistency: a model writes many outputs, and the most frequent answer counts.

A vote is an answer; an output without one does not vote. Among answers with equally many votes, the
one wins whose votes have the larger summed log-probability, then the one that was written first.
Source: Wang et al. 2023 (arXiv 2203.11171); samples as in ``icot.inference.sampling``.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from icot.data.staged import StagedExamples
from icot.data.tokenized import detokenize
from icot.inference.completions import Decoding, Request
from icot.inference.greedy import (
    Prompts,
    evaluation_mode,
    finish,
    rows_per_cache,
    without_end,
    write_tokens,
)
from icot.inference.predictor import GreedyPredictor, Outputs, Vote
from icot.inference.sampling import next_tokens, question_seed
from icot.inference.teachers import RunTeacher
from icot.models.introspection import config_of
from icot.models.positions import learned_positions
from icot.removal import KeepIds, Side
from icot.tasks.answers import ANSWER_MARK


@dataclass(frozen=True)
class Winner:
    """The result of a vote.

    Attributes:
        first: the number of the first output with the answer that wins.
        is_tie: whether another answer has as many votes.
    """

    first: int
    is_tie: bool


def count_votes(votes: Sequence[Vote]) -> Winner | None:
    """The answer with the most votes; None if nobody votes."""
    supporters: dict[str, list[int]] = {}
    for number, vote in enumerate(votes):
        if vote.answer is not None:
            supporters.setdefault(vote.answer, []).append(number)
    if not supporters:
        return None
    most = max(map(len, supporters.values()))
    best = [numbers for numbers in supporters.values() if len(numbers) == most]
    likely = max(best, key=lambda numbers: sum(votes[n].logprob for n in numbers))
    return Winner(likely[0], len(best) > 1)


def answer_in(text: str, extract_answer: Callable[[str], str]) -> str | None:
    """The answer that an output votes for, as the task extracts it; None if it has none."""
    answer = extract_answer(text)
    return answer if answer.startswith(ANSWER_MARK) and answer != ANSWER_MARK else None


class VotingPredictor:
    """The output of the first sample with the answer that wins; without any, the first sample.

    Args:
        greedy: of the run's method, with the model and the batch size.
        tokenizer: of the model.
        extract_answer: of the task.
        n: samples of each example.
        temperature, top_p: of the sampling.
        seed: of the sampling.

    Attributes:
        reference: the greedy predictor, whose speed is No CoT's.
    """

    def __init__(
        self,
        greedy: GreedyPredictor,
        tokenizer: PreTrainedTokenizerBase,
        extract_answer: Callable[[str], str],
        *,
        n: int = 30,
        temperature: float = 0.7,
        top_p: float = 1.0,
        seed: int = 0,
    ) -> None:
        self.reference, self.model = greedy, greedy.model
        self.tokenizer, self.extract_answer = tokenizer, extract_answer
        self.n, self.temperature, self.top_p, self.seed = n, temperature, top_p, seed

    @property
    def device(self) -> torch.device:
        """Where the model's weights are."""
        return self.reference.device

    @property
    def settings(self) -> Mapping[str, Any]:
        """How many samples are drawn, and how."""
        return {
            "predictor": "vote",
            "samples": self.n,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "seed": self.seed,
            "batch_size": self.reference.batch_size,
        }

    def predict(self, examples: StagedExamples) -> Outputs:
        """Tokens of the winners, and all votes."""
        return self._vote(examples, np.arange(len(examples)))

    def decode(
        self, examples: StagedExamples, index: NDArray[np.int64], own_length: bool = False
    ) -> Outputs:
        """The same for some examples; outputs of their own length cannot be voted on."""
        if own_length:
            return self.reference.decode(examples, index, own_length)
        return self._vote(examples, index)

    def answer(
        self,
        questions: Sequence[str],
        tokenizer: PreTrainedTokenizerBase,
        *,
        max_new_tokens: int,
        tokens_removed: int = 0,
        side: Side = "left",
        keep_position_ids: KeepIds = False,
        separators: int = 2,
        fillers: int = 0,
    ) -> list[str]:
        """The texts of the winners for bare questions."""
        teacher = RunTeacher(
            self.model,
            tokenizer,
            Decoding(max_new_tokens, self.temperature, self.top_p),
            self.reference.batch_size,
            tokens_removed=tokens_removed,
            side=side,
            keep_position_ids=keep_position_ids,
            before_answer=separators,
            fillers=fillers,
        )
        requests = [
            Request(question, sample, question_seed(self.seed, i))
            for i, question in enumerate(questions)
            for sample in range(self.n)
        ]
        written = [completion for _, completion in teacher.sample(requests)]
        texts = []
        for start in range(0, len(written), self.n):
            part = written[start : start + self.n]
            votes = [
                Vote(answer_in(one.text, self.extract_answer), one.logprob or 0.0) for one in part
            ]
            winner = count_votes(votes)
            texts.append(part[0 if winner is None else winner.first].text)
        return texts

    def _vote(self, examples: StagedExamples, index: NDArray[np.int64]) -> Outputs:
        tokens: list[list[int]] = []
        logprobs: list[float] = []
        pairs = [(int(i), sample) for i in index for sample in range(self.n)]
        size = min(self.reference.batch_size, rows_per_cache(self.model, examples))
        with evaluation_mode(self.model):
            for start in range(0, len(pairs), size):
                written, likelihood = self._sample(examples, pairs[start : start + size])
                tokens += written
                logprobs += likelihood
        eos = examples.eos_token_id
        texts = detokenize(self.tokenizer, [without_end(one, eos) for one in tokens])
        votes = [
            Vote(answer_in(text, self.extract_answer), logprob)
            for text, logprob in zip(texts, logprobs, strict=True)
        ]
        of_examples = [votes[start : start + self.n] for start in range(0, len(votes), self.n)]
        winners = [count_votes(of_one) for of_one in of_examples]
        outputs = [
            tokens[i * self.n + (0 if winner is None else winner.first)]
            for i, winner in enumerate(winners)
        ]
        return Outputs(tokens=outputs, votes=of_examples, decoded=len(outputs))

    @torch.no_grad()
    def _sample(
        self, examples: StagedExamples, pairs: Sequence[tuple[int, int]]
    ) -> tuple[list[list[int]], list[float]]:
        """The outputs of some (example, sample), and their log-probabilities."""
        device, eos, most = self.device, examples.eos_token_id, examples.longest_target
        batch = examples.batch(np.array([i for i, _ in pairs])).to(device)
        nothing = torch.zeros(len(pairs), dtype=torch.long, device=device)
        keys = [(question_seed(self.seed, int(examples.rows[i])), k) for i, k in pairs]
        steps = write_tokens(
            self.model,
            Prompts.of(batch, eos, nothing, examples.side),
            nothing + most,
            eos,
            learned_positions(config_of(self.model)),
            choose=next_tokens(self.temperature, self.top_p, keys, most, device),
        )
        decoded = finish(steps)
        return decoded.tokens, decoded.log_probability.tolist()
