"""Examples to prompts, and texts to answers; no model here.

    Solve the problem at the end. ...

    Solved examples:

    Q: 1734 * 2817
    A: 1): 7 * 1734 = 12138 (partial sum 0 + 12138 = 12138) 2): ... #### 4884678
    Q: ...

    The problem:

    Q:5646 * 1576

Without a chain the second line is ``A: #### 4884678``. The layout, with no blank behind the last
``Q:``, and the judgement by the text behind the last ``####`` are the published ones
(github.com/da03/implicit_chain_of_thought, gpt4_baselines; arXiv 2405.14838, Tables 2 and 3); the
wording is in ``conf/prompt``. A model that continues text gets ``Q: 5646 * 1576`` and ``A:``.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

import numpy as np

from icot.config.prompt_options import ExamplesPromptConfig, NativePromptConfig
from icot.tasks.answers import ANSWER_MARK
from icot.tasks.base import Example, Task

AnyPrompt = ExamplesPromptConfig | NativePromptConfig
POOL = 20_000  # examples of the train split that are drawn from
LONGEST_NUMBER = 400  # characters; a longer text is compared as text
NUMBER = re.compile(r"([-+]?)\$?([-+]?)(\d[\d,]*)?(?:\.(\d*))?", re.ASCII)
LABEL = re.compile(r"A:\s*")  # what a model may repeat before its answer


def name_of(prompt: AnyPrompt) -> str:
    """A prompt in a title: ``completion`` where a model goes on behind the question."""
    if isinstance(prompt, NativePromptConfig):
        return "native"
    completed = "" if prompt.question_form.endswith("{question}") else ", completion"
    return f"{prompt.shots}-shot " + ("explicit CoT" if prompt.chain else "No CoT") + completed


def draw_exemplars(
    pool: Sequence[Example], shots: int, seed: int, index: int, question: str
) -> list[Example]:
    """The examples in the prompt of a question, without the question itself.

    A function of its arguments alone: with fewer questions each keeps its prompt.

    Args:
        pool: to draw from, without replacement.
        shots: how many; fewer if the pool has no more.
        seed: of the draws.
        index: of the question in its split.
        question: its text.
    """
    order = np.random.default_rng((seed, index)).permutation(len(pool))
    others = (pool[i] for i in order if pool[i].question != question)
    return [example for example, _ in zip(others, range(shots), strict=False)]


def write_prompt(question: str, exemplars: Sequence[Example], prompt: AnyPrompt) -> str:
    """The prompt of a question; question and examples in the task's prose."""
    if isinstance(prompt, NativePromptConfig):
        return f" {question} {prompt.separator}" + prompt.separator * (prompt.separators - 1)
    lines = [prompt.instruction, "", prompt.examples_heading, ""]
    for example in exemplars:
        chain = f"{example.cot} " if prompt.chain and example.cot else ""
        lines += [f"Q: {example.question}", f"A: {chain}{ANSWER_MARK} {example.answer}"]
    asked = prompt.question_form.replace("{question}", question)
    return "\n".join([*lines, "", prompt.question_heading, "", asked])


def prompt_hash(prompt: str) -> str:
    """Eight hexadecimal digits of a prompt."""
    return sha256(prompt.encode("utf-8", "replace")).hexdigest()[:8]


@dataclass(frozen=True)
class Judged:
    """What a text says, against the right answer.

    Attributes:
        answer: the text behind its last mark, or the whole text without one.
        strict: it is the right answer, character by character.
        numeric: it is the same number, or by the task's own comparison the same answer.
        broken: the text does not keep to the format: no mark or several, an answer on several lines
            or with words around a number, and without a chain anything before the mark.
    """

    answer: str
    strict: bool
    numeric: bool
    broken: bool


def judge(text: str, right: str, task: Task, chain: bool) -> Judged:
    """Judge a text.

    Args:
        text: what the model wrote.
        right: the right answer, without mark.
        task: compares answers that are no numbers.
        chain: whether the text should have a chain.
    """
    before, mark, behind = text.rpartition(ANSWER_MARK)
    answer = behind.strip()
    number = number_in(right)
    if number is not None:
        numeric = number_in(answer) == number
        is_answer = number_in(answer) is not None
    else:
        numeric = task.is_correct(f"{ANSWER_MARK} {answer}", f"{ANSWER_MARK} {right}")
        is_answer = bool(answer) and "\n" not in answer
    broken = not mark or ANSWER_MARK in before or not is_answer
    if not chain:
        broken = broken or LABEL.sub("", before, count=1).strip() != ""
    return Judged(answer, answer == right, numeric, broken)


def number_in(text: str) -> str | None:
    """The number that a text is, in one form for each: ``$1,234.00`` is 1234; None if it is none.

    Only digits of ASCII count, a sign, commas, one ``$``, one point.
    """
    found = NUMBER.fullmatch(text.strip()) if len(text) <= LONGEST_NUMBER else None
    if found is None or (found[1] and found[2]):
        return None
    whole, fraction = (found[3] or "").replace(",", ""), found[4] or ""
    if not whole and not fraction:
        return None
    whole, fraction = whole.lstrip("0") or "0", fraction.rstrip("0")
    number = f"{whole}.{fraction}" if fraction else whole
    return f"-{number}" if "-" in (found[1], found[2]) and number != "0" else number
