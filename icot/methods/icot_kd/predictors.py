"""Predictors of ICoT-KD: of a student that reads a teacher, and of an emulator alone."""

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from icot.data.staged import StagedExamples
from icot.errors import UserError
from icot.inference.greedy import Prompts
from icot.inference.predictor import Decode, GreedyPredictor, Outputs
from icot.methods.icot_kd.coupled import Coupled
from icot.methods.icot_kd.mind_reading import MindReader
from icot.methods.icot_kd.states import Teacher

CHUNK = 256  # examples whose states are read at once


class CoupledPredictor(GreedyPredictor):
    """Greedy decoding of a student that reads an emulator's states, the emulator's pass included.

    Attributes:
        reference: the student's causal LM alone, whose speed is No CoT's.
    """

    def __init__(self, model: Coupled, batch_size: int = 500, decode: Decode = "verify") -> None:
        super().__init__(model, batch_size, decode)
        self.reference = GreedyPredictor(model.student.model, batch_size, decode)

    @property
    def settings(self) -> Mapping[str, Any]:
        """As of greedy decoding, under the method's name."""
        return {**super().settings, "title": "ICoT-KD, emulator and student"}


class MindReadingPredictor(GreedyPredictor):
    """Greedy decoding of a student that is fed the states of the gold chain.

    Its accuracy is an upper bound of what the student can do, and no result of an implicit
    reasoner: the teacher has read the chain.
    """

    def __init__(
        self, model: MindReader, teacher: Teacher, batch_size: int = 500, decode: Decode = "verify"
    ) -> None:
        super().__init__(model, batch_size, decode)
        self.student, self.teacher = model, teacher

    @property
    def settings(self) -> Mapping[str, Any]:
        """As of greedy decoding, and that the chain was read."""
        title = "mind reading: with the states of a teacher that reads the gold chain"
        return {**super().settings, "title": title, "reads_the_gold_chain": True}

    def predict(self, examples: StagedExamples) -> Outputs:
        """Tokens, and the likelihood of the targets, with the teacher's states in place."""
        with _Reading(self, examples, np.arange(len(examples))):
            return super().predict(examples)

    def decode(
        self, examples: StagedExamples, index: NDArray[np.int64], own_length: bool = False
    ) -> Outputs:
        """Tokens alone."""
        with _Reading(self, examples, index):
            return super().decode(examples, index, own_length)

    def answer(
        self, questions: Sequence[str], tokenizer: PreTrainedTokenizerBase, **settings: Any
    ) -> NoReturn:
        """Refused: without its chain a question has no states."""
        self._refuse()

    def stream(self, prompt: Prompts, max_new_tokens: int, eos_token_id: int) -> NoReturn:
        """Refused, as answers are."""
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise UserError(
            "a mind-reading student answers only questions whose chains a teacher can read; train "
            "an emulator and couple both (method=coupled)."
        )


class _Reading:
    """While open, the student reads the teacher's states of some examples, found by question."""

    def __init__(
        self, predictor: MindReadingPredictor, examples: StagedExamples, index: NDArray[np.int64]
    ) -> None:
        self.student, self.teacher = predictor.student, predictor.teacher
        self.examples, self.index, self.device = examples.at(0), index, predictor.device

    def __enter__(self) -> None:
        self.teacher.model.to(self.device)
        self._rows: dict[bytes, int] = {}
        found, count = [], 0
        for begin in range(0, len(self.index), CHUNK):
            batch = self.examples.batch(self.index[begin : begin + CHUNK])
            for ids, start in zip(batch.input_ids.tolist(), batch.cot_start.tolist(), strict=True):
                self._rows[_key(ids[: start - 1])] = count  # of a question twice, the last
                count += 1
            found.append(self.teacher.states(batch.to(self.device)))
        self._states = torch.cat(found)
        self.student.source = self._look_up

    def __exit__(self, *exception: object) -> None:
        self.student.source = None

    def _look_up(self, input_ids: Tensor, columns: Tensor, inputs: dict[str, Any]) -> Tensor:
        eos = self.student.eos_token_id
        pairs = zip(input_ids.tolist(), columns.tolist(), strict=True)
        keys = [_key([t for t in ids[:column] if t != eos]) for ids, column in pairs]
        return self._states[torch.tensor([self._rows[key] for key in keys], device=self.device)]


def _key(question: list[int]) -> bytes:
    return np.array(question, dtype=np.int64).tobytes()


class NoAnswers:
    """The predictor of an emulator, which answers nothing: every use is refused."""

    def __getattr__(self, name: str) -> NoReturn:
        raise UserError(
            "an emulator answers no questions; its validation is its distance to the teacher's "
            "states. Couple it with a student (method=coupled) to evaluate both."
        )
