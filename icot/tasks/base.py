"""The base class of tasks: examples as text, in three splits, and how an answer is scored.

An example is a question, a chain of thought (CoT) and an answer. On disk it is one line,

    5 6 3 2 * 7 4 3 4||5 5 5 6 1 + ... #### 5 5 6 0 8 2 0 1

(``question||cot #### answer``, the format of the published code,
github.com/da03/Internalize_CoT_Step_by_Step); as a token sequence it is the tokenization of

    " {question} <eos> {cot} <eos> #### {answer} <eos>"
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from icot.tasks.answers import ANSWER_MARK, clean_answer, extract_answer

Split = Literal["train", "valid", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)


@dataclass(frozen=True, slots=True)
class Example:
    """One problem, all text; commas in the answer are removed (``icot.tasks.answers``)."""

    question: str
    cot: str
    answer: str

    def __post_init__(self) -> None:
        if "," in self.answer:
            object.__setattr__(self, "answer", clean_answer(self.answer))

    def line(self) -> str:
        """The line of a text file that holds this example."""
        return f"{self.question}||{self.cot} {ANSWER_MARK} {self.answer}"

    def text(self, eos: str) -> str:
        """The text that is tokenized, with ``eos`` as the separator."""
        return f" {self.question} {eos} {self.cot} {eos} {ANSWER_MARK} {self.answer} {eos}"


class Task(ABC):
    """The source of examples, and how answers are judged; independent of model and stage.

    Attributes:
        name: in reports and messages.
        one_per_question: an epoch visits each training question once, with one of its examples,
            which stand together; else it visits each example.
    """

    name: str
    one_per_question: bool = False

    @abstractmethod
    def size(self, split: Split) -> int | None:
        """The number of examples in ``split``; None if it is unknown before reading."""

    @abstractmethod
    def chunks(self, split: Split) -> Iterator[list[Example]]:
        """The examples of ``split`` in a fixed order, in lists of some thousands.

        Raises:
            DataError: a line that is not in the format; the message names file and line.
        """

    def questions(self, split: Split) -> Iterator[list[Example]]:
        """The examples of ``split`` for asking a teacher; an unknown answer is an empty one.

        Where examples without an answer are errors for ``chunks``, they are not here.
        """
        return self.chunks(split)

    @abstractmethod
    def fingerprint(self, split: Split) -> Mapping[str, Any]:
        """What determines the examples of ``split``: equal fingerprints mean equal examples."""

    def phases(self) -> Sequence[int]:
        """Sizes of consecutive parts of the training examples, which an epoch visits in order.

        Within a part the order is random; () is one part.
        """
        return ()

    def symbols(self) -> tuple[str, ...] | None:
        """All symbols, if the text consists of symbols separated by blanks; else None."""
        return None

    def skipped(self, split: Split) -> int:
        """The number of bad lines of ``split`` skipped when it was last read."""
        return 0

    def notes(self, split: Split) -> Sequence[str]:
        """What to know of ``split`` as it was last read; kept with its tokens, told to each run."""
        return ()

    def leaves_out(self, split: Split, example: Example) -> bool:
        """Whether to skip and count an example that cannot be tokenized; if not, it is an error."""
        return False

    def difficulty(self, example: Example) -> Mapping[str, float | str]:
        """Measures of an example's difficulty, by name; evaluation groups failures by them."""
        return {}

    def prose(self, example: Example) -> Example:
        """The example as a model that icot has not trained reads it; by default as it is."""
        return example

    def quantities(self, example: Example) -> Mapping[str, float | str]:
        """What a model may have to work out for an example, by name; ``icot.probe`` looks for it.

        Values that many examples share: a digit, a carry, a state.
        """
        return {}

    def extract_answer(self, text: str) -> str:
        """The answer in a text; by default the official extraction."""
        return extract_answer(text)

    def is_correct(self, prediction: str, target: str) -> bool:
        """Whether two texts contain the same answer."""
        return self.extract_answer(prediction) == self.extract_answer(target)
