"""Questions with options to choose from: CommonsenseQA, OpenBookQA, QuaRel, StrategyQA.

    Where do people read? Answer Choices: (a) bunk (b) library|| #### (b)

The chain is the record's rationale, or empty. Records have one of these shapes:

- question, choices (texts), label (a letter, a number from 0, or a text), optionally rationale; or
  options and answer in place of choices and label;
- question.stem, question.choices [label, text], answerKey (the files of CommonsenseQA, OpenBookQA);
- question or question_stem, choices {label, text}, answerKey (the same on the hub);
- question with ``(A) ... (B) ...`` in it, answer_index (QuaRel);
- question, and a true or false answer (StrategyQA): options yes and no;
- input, target_scores {option: score} and target, ``Yes. Fish have fins.`` (BIG-bench): the best
  option is right, and what follows its name in target is the chain.

A record without an answer is a bad one, but its question can be asked (``questions``).
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from icot.tasks.answers import ANSWER_MARK, extract_answer
from icot.tasks.base import Example, Split
from icot.tasks.lines import example_of, text_of
from icot.tasks.records import Records

LETTERS = "abcdefghijklmnopqrstuvwxyz"
OPTION = re.compile(r"\(([a-z])\)", re.IGNORECASE)
ANSWERS = ("answerKey", "label", "answer", "answer_index")  # where a record's answer may be
RATIONALES = ("rationale", "explanation", "facts")  # where a record's chain may be
NONE = "none of the options"


class MultipleChoice(Records):
    """Multiple-choice questions; the other arguments are those of ``Records``.

    Args:
        options: the most options of a question, whose letters are the possible answers; None is 26.
    """

    def __init__(self, *args: Any, options: int | None = None, **kwargs: Any) -> None:
        self.letters = LETTERS[:options]
        super().__init__(*args, **kwargs)

    def converter(self, format: str) -> Callable[[Mapping[str, Any]], Example]:
        """All shapes are known by their names."""
        if format != "multiple_choice":
            raise ValueError(f"format must be multiple_choice, not {format}")
        return partial(example_from_row, letters=self.letters)

    def fingerprint(self, split: Split) -> Mapping[str, Any]:
        """As of ``Records``, with the number of letters."""
        return {**super().fingerprint(split), "version": 2, "options": len(self.letters)}

    def questions(self, split: Split) -> Iterator[list[Example]]:
        """Records without an answer make examples, too."""
        convert = partial(example_from_row, letters=self.letters, needs_answer=False)
        return self.in_chunks(split, self.read_as(split, convert))

    def extract_answer(self, text: str) -> str:
        """The first letter of an option in brackets after the mark, as ``(b)``, in either case.

        A text without one has no answer, and is equal to no other.
        """
        answer = extract_answer(text)
        found = (letter.lower() for letter in OPTION.findall(answer))
        chosen = next((letter for letter in found if letter in self.letters), None)
        return f"{ANSWER_MARK} ({chosen})" if chosen else f"{NONE}: {answer}"

    def is_correct(self, prediction: str, target: str) -> bool:
        """Whether both have the same letter."""
        written = self.extract_answer(prediction)
        return not written.startswith(NONE) and written == self.extract_answer(target)

    def difficulty(self, example: Example) -> Mapping[str, float | str]:
        """The number of options, and of words of the question."""
        options = len(OPTION.findall(example.question))
        return {"options": options, "words": len(example.question.split())}


def example_from_row(
    row: Mapping[str, Any], letters: str = LETTERS, needs_answer: bool = True
) -> Example:
    """The example in a record of any of the shapes.

    Args:
        row: the record.
        letters: that options may have.
        needs_answer: refuse a record without an answer; else that of the example is empty.

    Raises:
        ValueError, KeyError: it has none; the message says why.
    """
    question, labels, texts, answer = _parts(row)
    asked = text_of(question, "question")
    if len(texts) > len(letters):
        most = f"{len(letters)} letters for them (task.options)"
        raise ValueError(f"has {len(texts)} options, but there are {most}")
    if texts:
        named = zip(letters, texts, strict=False)
        options = " ".join(f"({letter}) {text_of(text, 'option')}" for letter, text in named)
        asked = f"{asked} Answer Choices: {options}"
    chosen = ""
    if needs_answer or answer not in (None, ""):
        possible = labels[: len(letters)]
        chosen = f"({letters[_index(answer, possible, [str(text) for text in texts])]})"
    example = example_of(asked, text_of(_chain(row, texts, answer), "chain"), chosen or "(a)")
    return replace(example, answer=chosen)


def _parts(row: Mapping[str, Any]) -> tuple[Any, list[str], list[Any], Any]:
    """Question, labels and texts of the options, and the answer; no texts if it has the options."""
    found = row.get("choices", row.get("options"))
    if "answer_index" in row and found is None:
        question = text_of(row["question"], "question")
        return question, OPTION.findall(question), [], row["answer_index"]
    if "target_scores" in row:
        return row["input"], *_scored(row["target_scores"])
    question = row.get("question", row.get("question_stem"))
    if isinstance(row.get("answer"), bool):
        return question, ["A", "B"], ["yes", "no"], row["answer"]
    answer = next((row[key] for key in ANSWERS if key in row), None)
    if isinstance(question, Mapping):
        question, found = question["stem"], question["choices"]
    if isinstance(found, Mapping):
        is_table = {"label", "text"} <= set(found)  # else the texts by their labels
        labels, texts = (found["label"], found["text"]) if is_table else (found, found.values())
        labels, texts = [str(label) for label in labels], list(texts)
        if len(labels) != len(texts):
            raise ValueError(f"has {len(labels)} labels for {len(texts)} options")
        return question, labels, texts, answer
    if not isinstance(found, Sequence) or isinstance(found, str) or len(found) < 2:
        raise ValueError(f"its choices are {found!r:.60}, not two or more")
    labels, texts = list(LETTERS[: len(found)].upper()), list(found)
    if isinstance(found[0], Mapping):
        texts = [one["text"] for one in found]
        labels = [str(one["label"]) for one in found] if "label" in found[0] else labels
    return question, labels, texts, answer


def _scored(scores: Any) -> tuple[list[str], list[str], int]:
    """Labels and names of the options that have scores, and the number of the best one.

    Raises:
        ValueError: there are not two options, or there is no single best one.
    """
    if not isinstance(scores, Mapping) or len(scores) < 2:
        raise ValueError(f"its target_scores are {scores!r:.60}, not those of two or more options")
    names, numbers = list(scores), list(scores.values())
    if sorted(name.lower() for name in names) == ["no", "yes"]:  # as StrategyQA's own files
        names = ["yes", "no"]
        numbers = [next(n for key, n in scores.items() if key.lower() == name) for name in names]
    best = max(numbers)
    if numbers.count(best) > 1:
        raise ValueError(f"its target_scores have no single best option: {scores!r:.60}")
    return list(LETTERS[: len(names)].upper()), names, numbers.index(best)


def _chain(row: Mapping[str, Any], options: Sequence[Any], answer: Any) -> Any:
    """The rationale of a record; empty without one."""
    if "target_scores" in row:
        target, name = row.get("target", ""), re.escape(options[answer])
        return re.sub(rf"^\s*{name}(?!\w)[.,:;]?\s*", "", target, count=1, flags=re.IGNORECASE)
    found = next((row[name] for name in RATIONALES if row.get(name)), "")
    if isinstance(found, Sequence) and not isinstance(found, str):
        return " ".join(text_of(step, "step") for step in found)
    return found


def _index(answer: Any, labels: Sequence[str], texts: Sequence[str]) -> int:
    """The number of the right option.

    Raises:
        ValueError: there is no such option.
    """
    if isinstance(answer, bool):
        answer = "yes" if answer else "no"
    said = str(answer).strip("() ").lower()
    is_number = isinstance(answer, int | float)
    for names in (labels,) if is_number else (labels, texts):
        spelled = [name.strip().lower() for name in names]
        if said in spelled:
            return spelled.index(said)
    if is_number and answer in range(len(labels)):  # 1.0 is equal to 1
        return int(answer)
    hint = "; without quotation marks, numbers count from 0" if str(answer).isdecimal() else ""
    raise ValueError(f"its answer is {answer!r:.60}, which is none of {', '.join(labels)}{hint}")
