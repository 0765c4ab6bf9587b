"""GSM8K grade-school problems with only equations as the chain (arXiv 2405.14838, section 4.1).

    Janet's ducks lay 16 eggs a day ...||<<16-3-4=9>> <<9*2=18>> #### 18

Read from local text files (``TextFiles``), or from a hub data set in one of three formats:

- ``whynlp/gsm8k-aug``: columns question, steps (a list of equations), answer;
- ``zen-E/GSM8k-Aug``: columns question, cot, answer;
- ``openai/gsm8k``: columns question, answer; the chain consists of the ``<<...>>`` notes in the
  worked answer, and the number follows ``####``.
"""

import re
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from icot.errors import DataError
from icot.tasks.answers import ANSWER_MARK
from icot.tasks.base import Example, Split, Task

CHUNK = 20_000
EQUATION = re.compile(r"<<[^<>]*>>")
HUB_SPLITS: dict[Split, tuple[str, ...]] = {
    "train": ("train",),
    "valid": ("validation", "valid"),
    "test": ("test",),
}


def example_from_row(row: Mapping[str, Any]) -> Example:
    """The example in one row of a hub data set.

    Raises:
        ValueError: the columns have none of the three formats.
    """
    if "question" not in row or "answer" not in row:
        raise ValueError(f"has the columns {', '.join(row)} but needs question and answer")
    answer = str(row["answer"])
    if "steps" in row:
        cot = " ".join(str(step).strip() for step in row["steps"])
    elif "cot" in row:
        cot = str(row["cot"])
    else:
        worked, mark, answer = answer.rpartition(ANSWER_MARK)
        if not mark:
            raise ValueError(f"its answer has no '{ANSWER_MARK}'")
        cot = " ".join(EQUATION.findall(worked))
    question = " ".join(str(row["question"]).split())  # one line
    return Example(question, cot.strip(), answer.strip().replace(",", ""))


def difficulty(cot: str) -> dict[str, float]:
    """The number of equations in a chain; empty if it has none."""
    count = len(EQUATION.findall(cot))
    return {"equations": count} if count else {}


class HubGSM8K(Task):
    """GSM8K through the ``datasets`` library.

    Args:
        dataset: hub name, or a folder that ``datasets`` can load.
        subset: the data set's configuration name, ``main`` for ``openai/gsm8k``.
        revision: a commit or tag that pins the download.
        held_out: without a validation split, this many last training rows become it.
        train_size, valid_size, test_size: the number of examples to use, from the start.
    """

    name = "gsm8k"

    def __init__(
        self,
        dataset: str,
        subset: str | None = None,
        revision: str | None = None,
        held_out: int = 500,
        train_size: int | None = None,
        valid_size: int | None = None,
        test_size: int | None = None,
    ) -> None:
        self.dataset, self.subset, self.revision = dataset, subset, revision
        self.held_out = held_out
        self._limits = {"train": train_size, "valid": valid_size, "test": test_size}

    def size(self, split: Split) -> None:
        """Unknown before reading."""

    def fingerprint(self, split: Split) -> Mapping[str, Any]:
        """The data set's name and revision; pin a revision where the data may change."""
        return {
            "task": "gsm8k",
            "version": 1,
            "dataset": self.dataset,
            "subset": self.subset,
            "revision": self.revision,
            "held_out": self.held_out,
            "limit": self._limits[split],
            "split": split,
        }

    def difficulty(self, example: Example) -> Mapping[str, float]:
        """The number of equations."""
        return difficulty(example.cot)

    def chunks(self, split: Split) -> Iterator[list[Example]]:
        """The examples of ``split``.

        Raises:
            DataError: the data set cannot be loaded, or its columns have no known format.
        """
        rows = islice(self._rows(split), self._limits[split])
        while part := list(islice(rows, CHUNK)):
            try:
                yield [example_from_row(row) for row in part]
            except ValueError as error:
                raise DataError(f"data set {self.dataset}, split {split}: {error}.") from None

    def _rows(self, split: Split) -> Iterator[Mapping[str, Any]]:
        try:
            from datasets import load_dataset
        except ImportError:
            raise DataError(
                "a hub data set needs the package datasets: pip install 'icot[hub]'."
            ) from None
        try:
            splits = load_dataset(self.dataset, self.subset, revision=self.revision)
        except Exception as error:  # datasets raises many kinds
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise DataError(
                f"data set {self.dataset} cannot be loaded ({reason}). Without a network set "
                "task.data_dir to a folder with train.txt and valid.txt in the format."
            ) from None
        found = next((name for name in HUB_SPLITS[split] if name in splits), None)
        if found is not None:
            rows = splits[found]
            if split == "train" and not any(name in splits for name in HUB_SPLITS["valid"]):
                rows = rows.select(range(len(rows) - self.held_out))
            return iter(rows)
        if split == "valid":
            rows = splits["train"]
            return iter(rows.select(range(len(rows) - self.held_out, len(rows))))
        raise DataError(f"data set {self.dataset} has no {split} split.")
