"""``python -m icot.sample``: many rationales of a teacher for each question.

    python -m icot.sample teacher=run teacher.run_dir=outputs/RUN samples=10 out=data/corpus
    python -m icot.sample task=gsm8k_nl teacher=model teacher.name_or_path=FOLDER shots=5 out=...
    python -m icot.sample task=gsm8k_nl teacher=endpoint teacher.base_url=URL teacher.model=NAME ...

Writes ``samples.json``, ``samples.jsonl`` and ``usage.json`` (``icot.methods.scotd.corpus``). The
same command, started again, asks for what is missing: of a model on this machine each fixed batch
that lacks something, whose texts are always the same; of a server whatever nobody has received.

With ``rescore=``, it writes no texts (``icot.commands.rescore``).
"""

import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import chain, islice
from pathlib import Path
from typing import Any

from rich.console import Console

from icot.commands.build_teacher import Asked, build_teacher, task_of
from icot.commands.quiet import quiet_libraries
from icot.commands.rescore import rescore
from icot.config.command_line import CommandLine
from icot.config.entry_points import SampleConfig
from icot.errors import DataError, PausedError, RunError
from icot.inference.completions import Completion, Request, what_cut
from icot.inference.sampling import question_seed
from icot.methods.scotd.corpus import (
    FORMAT,
    CorpusWriter,
    Sample,
    judge,
    read_usage,
    split_text,
)
from icot.system.output import lock_output
from icot.tasks.base import Example, Task

SAID = 5.0  # seconds between two lines of progress
ENOUGH = 100  # samples after which too many cut ones stop the command
Indexed = tuple[int, Example]
Cell = tuple[int, int]  # a question's place in the list of those asked, and a sample's number


def run(cfg: SampleConfig, command: CommandLine) -> None:
    """Sample, or rate what was sampled, and print what came.

    Raises:
        PausedError: as of ``sample``, with the command to go on.
    """
    if cfg.rescore is not None:
        rescore(cfg)
        return
    try:
        sample(cfg)
    except PausedError as error:
        raise PausedError(f"{error}\n  {command.text}") from None


def sample(cfg: SampleConfig) -> dict[str, Any]:
    """The same; returns what ``usage.json`` says, or nothing for a dry run.

    Raises:
        PausedError: a server gives no more for now, or the budget is used up.
        UserError: any other reason why there is no corpus.
    """
    quiet_libraries()
    out = Path(cfg.out)
    console = Console(highlight=False, soft_wrap=True)
    with lock_output(out):
        task, keys = task_of(cfg)
        whole = list(islice(chain.from_iterable(task.questions(cfg.split)), cfg.examples))
        if not whole:
            raise DataError(f"task {task.name} has no example in its {cfg.split} split.")
        asked = build_teacher(cfg, task, whole)
        shown = set() if asked.prompter is None else {e.question for e in asked.prompter.exemplars}
        questions = [(i, e) for i, e in enumerate(whole) if e.question not in shown]
        settings = _settings(cfg, task, keys, questions, asked)
        if cfg.dry_run:
            _show(console, cfg, questions, asked)
            return {}
        corpus = CorpusWriter(out, settings)
        return _Sampling(cfg, task, questions, asked, corpus, console).run()


def _all_cells(cfg: SampleConfig, questions: Sequence[Indexed]) -> list[Cell]:
    return [(i, k) for i in range(len(questions)) for k in range(cfg.samples)]


class _Requests:
    """Makes the requests.

    Args:
        cfg: of the command.
        questions: that are asked.
        asked: the teacher.
    """

    def __init__(self, cfg: SampleConfig, questions: Sequence[Indexed], asked: Asked) -> None:
        self.seed, self.is_server = cfg.seed, asked.server is not None
        self.indices = [index for index, _ in questions]
        self.prompts = [example.question for _, example in questions]
        if asked.prompter is not None:
            self.prompts = [asked.prompter.prompt(i, e.question) for i, e in questions]

    def of(self, cell: Cell) -> Request:
        """The request for a sample.

        A server gets no seed: it would give the same text again for each sample of a question.
        """
        i, number = cell
        if self.is_server:
            return Request(self.prompts[i], number, draw=self.seed)
        return Request(self.prompts[i], number, question_seed(self.seed, self.indices[i]))


def _settings(
    cfg: SampleConfig,
    task: Task,
    keys: dict[str, Any],
    questions: Sequence[Indexed],
    asked: Asked,
) -> dict[str, Any]:
    """What determines the corpus."""
    fingerprint = json.dumps(dict(task.fingerprint(cfg.split)), sort_keys=True)
    return {
        "format": FORMAT,
        "task": keys,
        "fingerprint": hashlib.sha256(fingerprint.encode()).hexdigest(),
        "split": cfg.split,
        "questions": len(questions),
        "teacher": dict(asked.identity),
        "prompt": None if asked.prompter is None else asked.prompter.as_dict(),
        "samples": cfg.samples,
        "batch_size": asked.batch,
        "seed": cfg.seed,
    }


def _show(console: Console, cfg: SampleConfig, questions: Sequence[Indexed], asked: Asked) -> None:
    """What a dry run says."""
    requests = _Requests(cfg, questions, asked)
    cells = _all_cells(cfg, questions)
    n = len(cells)
    limit = asked.identity["decoding"]["max_tokens"]
    console.print(
        f"{len(questions):,} questions x {cfg.samples} samples = {n:,} texts of at most {limit} "
        f"tokens, {n * limit:,} in all. Nothing was written. The first prompt:"
    )
    console.print(requests.prompts[0], markup=False)
    if asked.server is not None:
        wanted = [requests.of(cell) for cell in cells]
        console.print(f"\n{asked.server.bounds(wanted)}")
        if cfg.samples > 1:
            alone = asked.server.bounds(wanted, together=False)
            console.print(f"If the server gives one text a request: {alone}")


class _Sampling:
    """The work of one command: what is missing of the grid of questions and samples."""

    def __init__(
        self,
        cfg: SampleConfig,
        task: Task,
        questions: Sequence[Indexed],
        asked: Asked,
        corpus: CorpusWriter,
        console: Console,
    ) -> None:
        self.cfg, self.task, self.questions = cfg, task, questions
        self.asked, self.corpus, self.console = asked, corpus, console
        self.requests = _Requests(cfg, questions, asked)
        self.cells = _all_cells(cfg, questions)
        self.begun = self.said = time.monotonic()
        self.found = len(corpus.samples)  # by earlier commands
        self.cut = sum(s.is_cut for s in corpus.samples)
        self.earlier = read_usage(corpus.folder)

    def run(self) -> dict[str, Any]:
        """Ask, write, and count."""
        there = self._there()
        missing = set(self.cells) - set(there)
        if self.found:
            self.console.print(f"{self.corpus.folder}: {self.found:,} samples are there already.")
        if self.asked.server is not None:
            self.asked.server.remember(
                (self.requests.of(cell), s.completion()) for cell, s in there.items()
            )
        try:
            with self.corpus:
                for cells in self._batches(missing):
                    self._ask(cells, missing)
        finally:
            self.corpus.write_usage(self._usage())
            if self.asked.server is not None:
                self.console.print(str(self.asked.server.usage))
        self._check_cut(1)
        content = self.corpus.finish()
        usage = self._usage()
        self.console.print(self._summary(usage) + f" Content {content[:16]}.")
        return usage

    def _there(self) -> dict[Cell, Sample]:
        place = {index: i for i, (index, _) in enumerate(self.questions)}
        return {(place[s.index], s.sample): s for s in self.corpus.samples if s.index in place}

    def _batches(self, missing: set[Cell]) -> Iterator[list[Cell]]:
        """What to ask for at once: everything, or each fixed batch that lacks something.

        A server has been asked for what is there: it is counted, and not asked for again.
        """
        if self.asked.batch is None:
            yield self.cells
            return
        for start in range(0, len(self.cells), self.asked.batch):
            cells = self.cells[start : start + self.asked.batch]
            if not missing.isdisjoint(cells):
                yield cells

    def _ask(self, cells: Sequence[Cell], missing: set[Cell]) -> None:
        requests = [self.requests.of(cell) for cell in cells]
        with closing(self.asked.writer.sample(requests)) as arriving:
            for n, completion in arriving:
                if cells[n] not in missing:
                    continue  # an earlier command has written it
                i, number = cells[n]
                found = self._sample(*self.questions[i], number, requests[n], completion)
                self.corpus.append(found)
                self.cut += found.is_cut
                self._check_cut(ENOUGH)
                now = time.monotonic()
                if now - self.said > SAID:
                    self.said = now
                    self.corpus.write_usage(self._usage())
                    self._say()

    def _sample(
        self, index: int, example: Example, number: int, request: Request, one: Completion
    ) -> Sample:
        rationale, prediction = split_text(one.text, self.asked.trigger, self.task)
        return Sample(
            index=index,
            sample=number,
            question=example.question,
            answer=example.answer or None,
            text=one.text,
            rationale=rationale,
            prediction=prediction,
            correct=judge(prediction, example, self.task),
            finish_reason=one.finish_reason,
            prompt_hash=hashlib.sha256(request.prompt.encode()).hexdigest()[:16],
            prompt_tokens=one.prompt_tokens,
            completion_tokens=one.completion_tokens,
            logprob=one.logprob,
            logprob_tokens=one.logprob_tokens,
            seed=request.seed,
            request_key=one.request_key,
            model=one.model,
        )

    def _usage(self) -> dict[str, Any]:
        samples = self.corpus.samples
        found: dict[str, Any] = {
            "samples": len(samples),
            "correct": sum(s.correct is True for s in samples),
            "truncated": sum(s.is_cut for s in samples),
            "unparsed": sum(s.prediction is None for s in samples),
            "without_logprob": sum(s.logprob is None for s in samples),
            "prompt_tokens": sum(s.prompt_tokens or 0 for s in samples),
            "completion_tokens": sum(s.completion_tokens or 0 for s in samples),
            "seconds": self.earlier.get("seconds", 0.0) + time.monotonic() - self.begun,
        }
        if self.asked.server is not None:
            used = self.asked.server.usage
            found |= used.as_dict() | {"prompt_tokens": used.new.prompt + used.reused.prompt}
            for name, number in self.earlier.get("requests", {}).items():
                found["requests"][name] += number
        return found

    def _say(self) -> None:
        seconds = time.monotonic() - self.begun
        new = self.corpus.samples[self.found :]
        rate = len(new) / seconds
        total = len(self.cells)
        left = (total - len(self.corpus.samples)) / rate / 60
        tokens = sum(s.completion_tokens or 0 for s in new) / seconds
        spent = ""
        if self.asked.server is not None:
            used = self.asked.server.usage
            cost = "" if used.cost is None else f", cost {used.cost:,.2f}"
            spent = f"{used.new.total + used.reused.total:,} tokens so far{cost}, "
        self.console.print(
            f"{len(self.corpus.samples):,} of {total:,} samples, {rate:,.1f} samples/s, "
            f"{tokens:,.0f} tokens/s, {spent}{left:,.1f} min left"
        )

    def _summary(self, usage: dict[str, Any]) -> str:
        seconds = time.monotonic() - self.begun
        new = self.corpus.samples[self.found :]
        tokens = sum(s.completion_tokens or 0 for s in new)
        labels = sum(s.correct is not None for s in self.corpus.samples)
        right = f"{usage['correct'] / labels:.1%} right" if labels else "no label"
        bare = usage["without_logprob"] if self.asked.identity["decoding"]["logprobs"] else 0
        missing = f" {bare:,} without log-probabilities," if bare else ""
        return (
            f"{self.corpus.folder}: {len(self.questions):,} questions x {self.cfg.samples} samples,"
            f" {right}, {usage['unparsed']:,} without an answer,{missing} "
            f"{usage['truncated']:,} cut; {len(new):,} new ones in {seconds:,.1f} s, "
            f"{tokens / seconds:,.0f} tokens/s."
        )

    def _check_cut(self, least: int) -> None:
        """Stop when too many of at least so many samples were cut.

        Raises:
            RunError: a larger share than ``max_truncated``.
        """
        n = len(self.corpus.samples)
        if n >= least and self.cut > self.cfg.max_truncated * n:
            limit = self.asked.identity["decoding"]["max_tokens"]
            reasons = [s.finish_reason or "" for s in self.corpus.samples if s.is_cut]
            raise RunError(
                f"{self.cut:,} of {n:,} samples were cut {what_cut(reasons, limit)}, more than "
                f"max_truncated={self.cfg.max_truncated:g}. Set a larger max_new_tokens and a new "
                "out=, or a larger max_truncated to go on here; cut samples are never trained on."
            )
