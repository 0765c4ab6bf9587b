"""The task of learning from a corpus of rationales that ``icot.sample`` wrote.

    python -m icot.train task=rationales task.samples=data/corpus schedule=explicit

With ``labels="gold"`` (supervised), samples with a wrong answer are dropped, and the right answer
is the target. With ``labels="teacher"`` (few-shot), none is dropped, and the target is what the
teacher answers: no label plays a part. Cut samples and those without an answer are never trained
on.

``schedule=no_cot`` on the same corpus is the label-only baseline (with ``filter="none"``, so that
every question counts), ``schedule=icot_si`` internalizes the distilled rationales.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from hydra.utils import get_class

from icot.config.kept import trusted_packages
from icot.config.section import TARGET
from icot.errors import DataError
from icot.methods.scotd.corpus import (
    SAMPLES,
    SETTINGS,
    Sample,
    judge,
    read_corpus,
    read_settings,
)
from icot.methods.scotd.embeddings import count_words, sentence_embeddings
from icot.methods.scotd.filters import (
    BUDGETED,
    Budget,
    Statistics,
    by_question,
    correct,
    dedup,
)
from icot.tasks.answers import ANSWER_MARK
from icot.tasks.base import Example, Split, Task

CHUNK = 20_000
HELD_OUT = 10  # one question of so many, with selection="train_holdout"
Labels = Literal["gold", "teacher"]
Filter = Literal["none", "correct", "random", "diversity", "likelihood", "open_endedness"]
Visit = Literal["one", "all"]
Selection = Literal["train_holdout", "valid"]


@dataclass(frozen=True)
class _Parts:
    """What a corpus is divided into: what is trained on, and the examples held out of it.

    ``notes`` has the corpus's numbers, before and after.
    """

    train: list[Sample]
    held_out: list[Example]
    notes: list[str]


class Rationales(Task):
    """Questions of a corpus with rationales and answers of a teacher.

    Args:
        samples: the folder that ``icot.sample`` wrote, or a file of such lines.
        samples_per_question: N, the samples of each question that are used, the first ones, before
            any filter; None is all.
        train_size: the questions to train on, from the start; None is all.
        labels: ``gold`` or ``teacher``, whose answers are learned.
        filter: what is kept; None is ``correct`` for gold labels, and ``none`` for the teacher's.
            The four filters with a budget come after ``correct`` where labels are gold.
        keep: k, the samples of a question that such a filter keeps, or keeps on average.
        dedup: equal rationales of a question with equal answers count once.
        visit: an epoch shows ``one`` sample of each question, another one each time, or ``all``.
        selection: where the ``valid`` split comes from: ``train_holdout`` is a tenth of the sampled
            questions, and ``test`` is then the sampled task's ``valid``; ``valid`` takes both from
            the sampled task, and so the best checkpoint is chosen by what is reported.
        embedding: for ``diversity``, a model of sentence-transformers; None counts words.
        seed: of what is drawn and held out.

    Raises:
        ValueError: the filter needs labels that are not to be used.
    """

    name = "rationales"

    def __init__(
        self,
        samples: str | Path,
        samples_per_question: int | None = None,
        train_size: int | None = None,
        labels: Labels = "gold",
        filter: Filter | None = None,
        keep: int = 5,
        dedup: bool = False,
        visit: Visit = "one",
        selection: Selection = "train_holdout",
        embedding: str | None = None,
        seed: int = 3456,
    ) -> None:
        if filter is None:
            filter = "correct" if labels == "gold" else "none"
        if labels == "teacher" and filter == "correct":
            raise ValueError("task.filter=correct looks at the labels: set task.labels=gold")
        if filter not in get_args(Filter):
            raise ValueError(f"task.filter must be one of {', '.join(get_args(Filter))}")
        self.path = Path(samples)
        self.samples_per_question, self.train_size = samples_per_question, train_size
        self.labels, self.filter, self.keep, self.dedup = labels, filter, keep, dedup
        self.selection, self.embedding, self.seed = selection, embedding, seed
        self.one_per_question = visit == "one"
        self._skipped: Counter[Split] = Counter()

    # ---------------------------------------------------------------------- the task of the corpus

    @cached_property
    def sampled(self) -> Task | None:
        """The task that was sampled; None if the corpus does not name one, as a file cannot.

        Raises:
            DataError: the corpus names code of a package that is not installed as one of icot's.
        """
        settings = read_settings(self.path) if self.path.is_dir() else {}
        if "task" not in settings:
            return None
        keys = settings["task"]
        if not isinstance(keys, dict) or TARGET not in keys:
            raise DataError(f"{self.path / SETTINGS}: the task that was sampled has no _target_.")
        target = str(keys[TARGET])
        if target.partition(".")[0] not in trusted_packages():
            raise DataError(
                f"{self.path / SETTINGS}: the task is {target!r}; a corpus may name code only of "
                "icot and of installed packages that extend it (entry point icot.packages)."
            )
        try:
            made: Task = get_class(target)(**{k: v for k, v in keys.items() if k != TARGET})
        except (ImportError, TypeError, ValueError) as error:
            raise DataError(
                f"{self.path / SETTINGS}: its task cannot be made ({error}); was it sampled with "
                "another version?"
            ) from None
        return made

    def _source(self, split: Split) -> tuple[Task | None, Split]:
        """The task and split that a held-out split comes from; None if no task is named."""
        held_out = self.selection == "train_holdout"
        return self.sampled, "valid" if held_out and split == "test" else split

    def _is_own(self, split: Split) -> bool:
        """Whether a split is made of samples."""
        return split == "train" or (split == "valid" and self.selection == "train_holdout")

    def size(self, split: Split) -> int | None:
        """Unknown before reading; 0 where the sampled task has none."""
        if self._is_own(split):
            return None
        task, name = self._source(split)
        return 0 if task is None else task.size(name)

    def fingerprint(self, split: Split) -> Mapping[str, Any]:
        """The corpus's file and what is taken from it, or the sampled task's.

        Raises:
            DataError: there is no such corpus, or it names no task whose split this would be.
        """
        file_of_corpus = self._file
        task, name = self._source(split)
        if not self._is_own(split):
            if task is None:
                raise DataError(
                    f"task.samples={self.path} does not name the task that was sampled, so there "
                    f"is no {split} split: use split=valid, and task.selection=train_holdout in "
                    "training."
                )
            return task.fingerprint(name)
        with file_of_corpus.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return {
            "task": "Rationales",
            "version": 1,
            "corpus": digest,
            "split": split,
            "samples_per_question": self.samples_per_question,
            "train_size": self.train_size,
            "labels": self.labels,
            "filter": self.filter,
            "keep": self.keep,
            "dedup": self.dedup,
            "selection": self.selection,
            "embedding": self.embedding,
            "seed": self.seed,
        }

    def chunks(self, split: Split) -> Iterator[list[Example]]:
        """The examples of ``split``; those of one question stand together.

        Raises:
            DataError: the corpus cannot be read, or nothing of it is left.
        """
        self._skipped[split] = 0
        if not self._is_own(split):
            task, name = self._source(split)
            yield from () if task is None else task.chunks(name)
            return
        parts = self._parts
        found = parts.held_out if split == "valid" else [self._example(s) for s in parts.train]
        for start in range(0, len(found), CHUNK):
            yield found[start : start + CHUNK]

    def leaves_out(self, split: Split, example: Example) -> bool:
        """A teacher may write anything: what holds the separator is dropped and counted."""
        self._skipped[split] += 1
        return self._is_own(split)

    def skipped(self, split: Split) -> int:
        """Such examples of ``split``."""
        return self._skipped[split]

    def notes(self, split: Split) -> Sequence[str]:
        """Samples, questions, share of right ones, before and after what is left out."""
        return self._parts.notes if split == "train" else ()

    def symbols(self) -> tuple[str, ...] | None:
        """Those of the task that was sampled."""
        return None if self.sampled is None else self.sampled.symbols()

    def difficulty(self, example: Example) -> Mapping[str, float | str]:
        """As the task that was sampled has it."""
        return {} if self.sampled is None else self.sampled.difficulty(example)

    def extract_answer(self, text: str) -> str:
        """As the task that was sampled does."""
        task = self.sampled
        return super().extract_answer(text) if task is None else task.extract_answer(text)

    def is_correct(self, prediction: str, target: str) -> bool:
        """As the task that was sampled judges."""
        task = self.sampled
        if task is None:
            return super().is_correct(prediction, target)
        return task.is_correct(prediction, target)

    # --------------------------------------------------------------------------------- the samples

    @property
    def _file(self) -> Path:
        """Its samples.

        Raises:
            DataError: they are not there.
        """
        file = self.path / SAMPLES if self.path.is_dir() else self.path
        if not file.is_file():
            raise DataError(f"task.samples={self.path}: there is no such corpus of samples.")
        return file

    @cached_property
    def _parts(self) -> _Parts:
        """The samples to train on and the examples to validate on."""
        every = by_question(self._judged(read_corpus(self._file)))
        questions = [of_one[: self.samples_per_question] for of_one in every]
        held_out: set[int] = set()
        if self.selection == "train_holdout" and len(questions) > 1:
            order = np.random.default_rng(self.seed).permutation(len(questions))
            held_out = set(order[: max(1, len(questions) // HELD_OUT)].tolist())
        learned = [q for i, q in enumerate(questions) if i not in held_out][: self.train_size]
        asked = list(chain.from_iterable(learned))
        train = self._filter(asked)
        marked = sum(ANSWER_MARK in sample.rationale for sample in asked)
        why = f"{marked} rationales hold the mark {ANSWER_MARK}, behind which the answer is read"
        if not train:
            because = f": {why}" if marked else ""
            raise DataError(f"task.samples={self.path}: no sample is left to train on{because}.")
        left_out = len(learned) - len(by_question(train))
        notes = [
            f"{self.path}, all: {Statistics.of(list(chain.from_iterable(questions)))}",
            f"{self.path}, to train on (labels {self.labels}, filter {self.filter}): "
            f"{Statistics.of(train)}; {left_out} questions without a sample.",
            *([f"{self.path}: {why}; they are left out."] if marked else []),
        ]
        examples = [self._held_out_example(questions[i]) for i in sorted(held_out)]
        return _Parts(train, [example for example in examples if example is not None], notes)

    def _judged(self, samples: Sequence[Sample]) -> list[Sample]:
        """The samples; another program may have left it to us whether an answer is right."""
        return [
            replace(s, correct=judge(s.prediction, Example(s.question, "", s.answer), self))
            if s.correct is None and s.answer is not None
            else s
            for s in samples
        ]

    def _filter(self, asked: Sequence[Sample]) -> list[Sample]:
        """What is trained on."""
        kept = [s for s in asked if self._is_usable(s)]
        if self.labels == "gold" and self.filter != "none":
            kept = correct(kept)
        if self.dedup:
            kept = dedup(kept)
        if self.filter in BUDGETED:
            by_meaning = self.filter == "diversity" and self.embedding is not None
            embed = sentence_embeddings(str(self.embedding)) if by_meaning else count_words
            kept = BUDGETED[self.filter](kept, Budget(self.keep, self.seed, asked, embed))
        return kept

    def _is_usable(self, sample: Sample) -> bool:
        """Whether it is whole, has a target, and no mark by which its answer would be misread."""
        has_target = self.labels == "teacher" or sample.answer is not None
        return sample.is_usable and has_target and ANSWER_MARK not in sample.rationale

    def _example(self, sample: Sample) -> Example:
        answer = sample.answer if self.labels == "gold" else sample.prediction
        assert answer is not None
        return _one_line(sample.question, sample.rationale, answer)

    def _held_out_example(self, of_one: Sequence[Sample]) -> Example | None:
        """A held-out question with its label, or what most of the teacher's samples answer.

        Its chain is that of the first sample with this answer, or of any. None without an answer.
        """
        usable = [s for s in of_one if s.is_usable and ANSWER_MARK not in s.rationale]
        if self.labels == "gold":
            answer, agreeing = of_one[0].answer, correct(usable)
        else:
            votes = Counter(s.prediction for s in usable)
            answer = votes.most_common(1)[0][0] if votes else None
            agreeing = [s for s in usable if s.prediction == answer]
        if answer is None:
            return None
        rationale = next((s.rationale for s in [*agreeing, *usable]), "")
        return _one_line(of_one[0].question, rationale, answer)


def _one_line(question: str, cot: str, answer: str) -> Example:
    return Example(*(" ".join(text.split()) for text in (question, cot, answer)))
