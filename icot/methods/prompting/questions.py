"""A task's examples as prompts, and a model's texts as judged predictions."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

from icot.config.prompt_options import ExamplesPromptConfig, NativePromptConfig
from icot.errors import DataError
from icot.evaluation.loading import Source
from icot.evaluation.measurement import share
from icot.evaluation.predictions import Prediction
from icot.inference.completions import Completion, Request
from icot.inference.sampling import question_seed
from icot.methods.prompting.few_shot import (
    POOL,
    AnyPrompt,
    draw_exemplars,
    judge,
    prompt_hash,
    write_prompt,
)
from icot.tasks.answers import ANSWER_MARK
from icot.tasks.base import Example, Task
from icot.tasks.text_files import TextFiles


@dataclass(frozen=True)
class Questions:
    """Questions and the prompts that ask them.

    Attributes:
        task: judges the answers.
        examples: as the task has them.
        asked: the same as they are asked.
        prompts: that ask them.
    """

    task: Task
    examples: list[Example]
    asked: list[Example]
    prompts: list[str]

    def requests(self, n: int, seed: int, to_server: bool) -> list[Request]:
        """``n`` requests for each question, which follow one another.

        A text in this process is a function of seed, question and its number alone. A server gets
        no seed, by which it would write one text ``n`` times; another seed asks it anew.
        """
        return [
            Request(prompt, number, draw=seed)
            if to_server
            else Request(prompt, number, question_seed(seed, index))
            for index, prompt in enumerate(self.prompts)
            for number in range(n)
        ]


@dataclass(frozen=True)
class PromptedPrediction(Prediction):
    """A prediction, and how it came about.

    Attributes:
        finish_reason, prompt_tokens, request_key: as in ``Completion``.
        strict, numeric: right by this comparison, and not cut; of an election, voted for.
        broken: not in the format of the examples.
        prompt_hash: eight hexadecimal digits of the prompt.
    """

    finish_reason: str = ""
    prompt_tokens: int = 0
    strict: bool = False
    numeric: bool = False
    broken: bool = False
    prompt_hash: str = ""
    request_key: str = ""


def has_chain(prompt: AnyPrompt) -> bool:
    """Whether a text is to have a chain."""
    if isinstance(prompt, NativePromptConfig):
        return prompt.separators == 1
    return prompt.chain


def read_questions(source: Source, prompt: AnyPrompt, limit: int | None) -> Questions:
    """The first ``limit`` questions of a source, all without one, with their prompts.

    Raises:
        DataError: they, or the examples of the prompts, cannot be read, or there are too few.
    """
    task = source.task
    examples = list(islice(chain.from_iterable(source.texts.chunks(source.split)), limit))
    if not examples:
        raise DataError(f"{source.name} has no example in its {source.split} split.")
    asked = examples
    exemplars: list[list[Example]] = [[] for _ in examples]
    if isinstance(prompt, ExamplesPromptConfig):
        asked = [task.prose(example) for example in examples]
        exemplars = list(_exemplars(task, asked, prompt))
    prompts = [
        write_prompt(one.question, shown, prompt)
        for one, shown in zip(asked, exemplars, strict=True)
    ]
    return Questions(task, examples, asked, prompts)


def _exemplars(
    task: Task, asked: Sequence[Example], prompt: ExamplesPromptConfig
) -> Iterator[list[Example]]:
    """The examples in the prompt of each question.

    Raises:
        DataError: there are too few.
    """
    where, texts = f"task {task.name}, its train split,", task
    if prompt.exemplars is not None:
        path = Path(prompt.exemplars)
        if not path.is_file():
            raise DataError(f"prompt.exemplars={path}: no such file.")
        where, texts = str(path), TextFiles(path.parent, path.name, None, None)
    read = texts.chunks("train") if prompt.shots else ()
    pool = [task.prose(example) for example in islice(chain.from_iterable(read), POOL)]
    for index, example in enumerate(asked):
        if prompt.exemplars is None:
            shown = draw_exemplars(pool, prompt.shots, prompt.seed, index, example.question)
        else:
            shown = [one for one in pool if one.question != example.question][: prompt.shots]
        if len(shown) < prompt.shots:
            raise DataError(
                f"{where} has {len(shown)} examples besides the question, and prompt.shots is "
                f"{prompt.shots}."
            )
        yield shown


def judge_texts(
    questions: Questions,
    written: Sequence[Completion],
    prompt: AnyPrompt,
    voted: Sequence[bool] | None = None,
) -> list[PromptedPrediction]:
    """The predictions, in the order of the questions; a text that is cut is wrong.

    Args:
        questions: that were asked.
        written: a text for each.
        prompt: that asked.
        voted: whether anybody voted on each, of an election; where nobody did, it is wrong.
    """
    predictions = []
    for index, (asked, one) in enumerate(zip(questions.asked, written, strict=True)):
        found = judge(one.text, asked.answer, questions.task, has_chain(prompt))
        counts = not one.truncated and (voted is None or voted[index])
        strict, numeric = (right and counts for right in (found.strict, found.numeric))
        predictions.append(
            PromptedPrediction(
                index=index,
                question=asked.question,
                target=f"{ANSWER_MARK} {asked.answer}",
                prediction=one.text,
                correct=strict if prompt.comparison == "strict" else numeric,
                tokens=one.completion_tokens,
                finish_reason=one.finish_reason,
                prompt_tokens=one.prompt_tokens,
                strict=strict,
                numeric=numeric,
                broken=found.broken,
                prompt_hash=prompt_hash(questions.prompts[index]),
                request_key=one.request_key,
            )
        )
    return predictions


def figures_of(
    predictions: Sequence[PromptedPrediction], written: Sequence[Completion]
) -> dict[str, Any]:
    """Shares and means, for ``evaluation.json``.

    Args:
        predictions: of all questions.
        written: all texts; if a question has several, its tokens are those of all of them.
    """
    n = len(predictions)
    return {
        **share(sum(p.correct for p in predictions), n),
        "accuracy_strict": sum(p.strict for p in predictions) / n,
        "accuracy_numeric": sum(p.numeric for p in predictions) / n,
        "broken_format": sum(p.broken for p in predictions) / n,
        "truncated": sum(one.truncated for one in written) / len(written),
        "tokens_per_example": sum(one.completion_tokens for one in written) / n,
        "reasoning_tokens_per_example": sum(one.reasoning_tokens for one in written) / n,
        "models_served": sorted({one.model for one in written}),
    }
