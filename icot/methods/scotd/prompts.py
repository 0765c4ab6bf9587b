"""Prompts with exemplars, as one text that a language model continues.

    Q: Tom has 3 apples and eats one. How many are left?
    A: He has 3 - 1 = 2. #### 2

    Q: Ann has 5 pears and buys two. How many are there?
    A:

Source: the published code of arXiv 2306.14050, whose trigger is ``So the answer is:``.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from icot.errors import ConfigError
from icot.tasks.base import Example, Task
from icot.tasks.text_files import TextFiles

DRAWN_FROM = 20_000  # first training examples


@dataclass(frozen=True)
class Template:
    """The parts of a prompt; ``icot.config.teacher_options.TemplateConfig`` says what each is."""

    question: str
    answer: str
    trigger: str
    stop: str


@dataclass(frozen=True)
class Prompter:
    """Makes the prompt of a question.

    Attributes:
        template: how it is written.
        exemplars: in front of the question, in this order.
        shuffled: in another order for each question, the same for all its samples.
        seed: of these orders.
    """

    template: Template
    exemplars: Sequence[Example]
    shuffled: bool = False
    seed: int = 0

    def prompt(self, index: int, question: str) -> str:
        """The prompt of the question of this index."""
        parts, shown = self.template, list(self.exemplars)
        if self.shuffled:
            order = np.random.default_rng([self.seed, index]).permutation(len(shown))
            shown = [shown[i] for i in order]
        solved = "".join(
            f"{parts.question}{one.question}\n{parts.answer}{one.cot}{parts.trigger}{one.answer}"
            f"{parts.stop}"
            for one in shown
        )
        return f"{solved}{parts.question}{question}\n{parts.answer}"

    def as_dict(self) -> dict[str, Any]:
        """Everything that decides the prompts, for the record."""
        return {
            "template": asdict(self.template),
            "exemplars": [one.line() for one in self.exemplars],
            "shuffled": self.shuffled,
        }


def find_exemplars(task: Task | None, shots: int, file: str | None, seed: int) -> list[Example]:
    """The exemplars of a file, or some drawn from the first 20,000 training examples.

    Args:
        task: whose train split they are drawn from, if there is one.
        shots: how many; with a file, 0 takes all of it.
        file: of lines ``question||cot #### answer``.
        seed: of the drawing.

    Raises:
        ConfigError: there are not so many with a chain.
        DataError: the file cannot be read.
    """
    if file is not None:
        path, where = Path(file), file
        source: Task = TextFiles(path.parent, path.name, None, None)
        found = list(chain.from_iterable(source.chunks("train")))
        shots = shots or len(found)
    elif not shots:
        return []
    elif task is None:
        raise ConfigError([f"shots={shots}: no task to draw them from; set task= or exemplars="])
    else:
        where = f"the train split of task {task.name}"
        found = next(task.chunks("train"), [])[:DRAWN_FROM]
        found = [found[i] for i in np.random.default_rng(seed).permutation(len(found))]
    found = [example for example in found if example.cot][:shots]
    if len(found) < shots or not shots:
        raise ConfigError(
            [f"shots={shots}: {where} has only {len(found)} examples with a chain; set exemplars="]
        )
    return found
