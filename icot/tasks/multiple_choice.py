"""Questions with options to choose from: CommonsenseQA, OpenBookQA, QuaRel, StrategyQA.

    Where do people read? Answer Choices: (a) bunk (b) library|| #### (b)

The chain is the record's rationale, or empty. Records have one of these shapes:

- question, choices (texts), label (a letter, a number from 0, or a text), optionally rationale; or
  options and answer in place of choices and label;
- question.stem, question.choices [label, text], answerKey (the files of CommonsenseQA, OpenBookQA);
- question or question_stem, choices {label, text}, answerKey (the same on the hub);
- question with ``(A) ... (B) ...`` in it, answer_index (QuaRel);
- question or input, and a true or false answer or target_scores (StrategyQA): options yes and no.

A record without an answer is a bad one.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from icot.tasks.answers import ANSWER_MARK, extract_answer
from icot.tasks.base import Example
from icot.tasks.lines import example_of, text_of
from icot.tasks.records import Records

LETTERS = "abcdefghijklmnopqrstuvwxyz"
OPTION = re.compile(r"\(([a-z])\)", re.IGNORECASE)
RATIONALES = ("rationale", "explanation", "facts")  # where a record's chain may be
NONE = "none of the options"


class MultipleChoice(Records):
    """Multiple-choice questions; the arguments are those of ``Records``."""

    def converter(self, format: str) -> Callable[[Mapping[str, Any]], Example]:
        """All shapes are known by their names."""
        if format != "multiple_choice":
            raise ValueError(f"format must be multiple_choice, not {format}")
        return example_from_row

    def extract_answer(self, text: str) -> str:
        """The first letter in brackets after the mark, as ``(b)``; case does not count.

        A text without one has no answer, and is equal to no other.
        """
        answer = extract_answer(text)
        found = OPTION.search(answer)
        return f"{ANSWER_MARK} ({found[1].lower()})" if found else f"{NONE}: {answer}"

    def is_correct(self, prediction: str, target: str) -> bool:
        """Whether both have the same letter."""
        written = self.extract_answer(prediction)
        return not written.startswith(NONE) and written == self.extract_answer(target)

    def difficulty(self, example: Example) -> Mapping[str, float | str]:
        """The number of options, and of words of the question."""
        options = len(OPTION.findall(example.question))
        return {"options": options, "words": len(example.question.split())}


def example_from_row(row: Mapping[str, Any]) -> Example:
    """The example in a record of any of the shapes.

    Raises:
        ValueError, KeyError: it has none; the message says why.
    """
    rationale = next((row[name] for name in RATIONALES if row.get(name)), "")
    if isinstance(rationale, Sequence) and not isinstance(rationale, str):
        rationale = " ".join(text_of(step, "step") for step in rationale)
    if "answer_index" in row:  # the options are in the question
        question, index = text_of(row["question"], "question"), row["answer_index"]
        letters = [letter.lower() for letter in OPTION.findall(question)]
        return example_of(question, text_of(rationale, "chain"), _letter(index, letters, letters))
    question, labels, texts, answer = _parts(row)
    asked = text_of(question, "question")
    letters = list(LETTERS[: len(texts)])
    options = " ".join(
        f"({letter}) {text_of(text, 'option')}" for letter, text in zip(letters, texts, strict=True)
    )
    chosen = _letter(answer, labels, [str(text) for text in texts])
    return example_of(f"{asked} Answer Choices: {options}", text_of(rationale, "chain"), chosen)


def _parts(row: Mapping[str, Any]) -> tuple[Any, list[str], list[Any], Any]:
    """Question, labels and texts of the options, and the answer."""
    if "target_scores" in row:  # BIG-bench's
        scores = {name.lower(): score for name, score in row["target_scores"].items()}
        return row["input"], [*LETTERS[:2]], ["yes", "no"], "yes" if scores["yes"] else "no"
    question = row.get("question", row.get("question_stem"))
    if isinstance(row.get("answer"), bool):
        return question, [*LETTERS[:2]], ["yes", "no"], "yes" if row["answer"] else "no"
    answer = next((row[key] for key in ("answerKey", "label", "answer") if key in row), None)
    found = row.get("choices", row.get("options"))
    if isinstance(question, Mapping):
        question, found = question["stem"], question["choices"]
    if isinstance(found, Mapping):
        return question, list(found["label"]), list(found["text"]), answer
    if not isinstance(found, Sequence) or isinstance(found, str) or len(found) < 2:
        raise ValueError(f"its choices are {found!r:.60}, not two or more")
    if isinstance(found[0], Mapping):
        texts = [one["text"] for one in found]
        return question, [str(one["label"]) for one in found], texts, answer
    return question, list(LETTERS[: len(found)].upper()), list(found), answer


def _letter(answer: Any, labels: Sequence[str], texts: Sequence[str]) -> str:
    """The right option as ``(b)``.

    Raises:
        ValueError: there is no such option.
    """
    names = [label.lower() for label in labels]
    index = -1
    if isinstance(answer, int) and not isinstance(answer, bool):
        index = answer if answer < len(names) else -1
    elif isinstance(answer, str) and answer.strip("() ").lower() in names:
        index = names.index(answer.strip("() ").lower())
    elif answer in texts:
        index = list(texts).index(answer)
    if index < 0:
        raise ValueError(f"its answer is {answer!r:.60}, which is none of {', '.join(labels)}")
    return f"({LETTERS[index]})"
