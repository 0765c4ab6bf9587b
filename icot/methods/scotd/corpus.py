"""A corpus of sampled rationales: a folder that is written line by line and continued exactly.

    samples.json     what determines the corpus, written first; once it is complete, its content
                     hash, and the names that a server gave its model
    samples.jsonl    one sample a line, in the order in which they arrived
    usage.json       tokens, seconds, cut and unreadable samples

A line of ``samples.jsonl``:

    {"index": 7, "sample": 0, "question": "2 1 * 3 1", "answer": "6 5 1 0", "text": "2 1 + ...",
     "rationale": "2 1 + 0 3 6 ( 2 4 6 )", "prediction": "6 5 1 0", "correct": true, ...}

``answer`` is the right one, and null without a label, as ``correct`` is then; ``prediction`` is
null where the text has no answer. Only ``index``, ``question``, ``answer``, ``sample``, ``text``
and ``prediction`` are needed to read a corpus that another program wrote.
"""

import hashlib
import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import IO, Any, get_args, get_type_hints

from icot.errors import DataError, RunError
from icot.inference.completions import STOP, Completion
from icot.system.files import explain_refusal, write_text
from icot.tasks.answers import ANSWER_MARK
from icot.tasks.base import Example, Task

FORMAT = 1
SETTINGS, SAMPLES, USAGE = "samples.json", "samples.jsonl", "usage.json"
CONTENT_HASH, CHECKSUM, SERVED = "content_hash", "checksum", "models_served"
NOT_CONTENT = ("request_key", "model")  # what may differ between two corpora of the same content
SYNCHRONIZED = 1.0  # seconds after which the next line brings all lines to the disk


@dataclass(frozen=True)
class Sample:
    """One text of a teacher.

    Attributes:
        index: of the question, in the split that was sampled.
        sample: its number among the samples of the question.
        question: as the task has it.
        answer: the right one; None without a label.
        text: all that the teacher wrote.
        rationale: what stands before its answer.
        prediction: its answer; None if it has none.
        correct: whether that is the right one; None without a label.
        finish_reason: ``stop`` of a whole text; None if unknown; any other was cut.
        prompt_hash: of the text that the teacher continued.
        prompt_tokens, completion_tokens, logprob, logprob_tokens, request_key, model: as in
            ``icot.inference.completions.Completion``.
        seed: of the sampling; None of a server.
    """

    index: int
    sample: int
    question: str
    answer: str | None
    text: str
    rationale: str
    prediction: str | None
    correct: bool | None
    finish_reason: str | None = None
    prompt_hash: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    logprob: float | None = None
    logprob_tokens: int | None = None
    seed: int | None = None
    request_key: str = ""
    model: str = ""

    @property
    def key(self) -> tuple[int, int]:
        """Its place in the grid of questions and samples."""
        return self.index, self.sample

    @property
    def is_cut(self) -> bool:
        """Whether the limit of tokens or the server ended it."""
        return self.finish_reason not in (STOP, None)

    @property
    def is_usable(self) -> bool:
        """Whether there is anything to train on: a whole text with an answer."""
        return self.prediction is not None and not self.is_cut

    def completion(self) -> Completion:
        """The text as it arrived; the prompt's tokens count for a question's first sample."""
        return Completion(
            text=self.text,
            finish_reason=self.finish_reason or STOP,
            prompt_tokens=self.prompt_tokens or 0,
            completion_tokens=self.completion_tokens or 0,
            is_estimate=True,
            shares_prompt=self.sample > 0,
            logprob=self.logprob,
            logprob_tokens=self.logprob_tokens,
            model=self.model,
            request_key=self.request_key,
        )

    def line(self) -> str:
        """The line of ``samples.jsonl``, with a checksum of the rest."""
        return json.dumps({**asdict(self), CHECKSUM: _checksum(asdict(self))}) + "\n"


def split_text(text: str, trigger: str, task: Task) -> tuple[str, str | None]:
    """The rationale in a text and the answer behind its last trigger, each on one line.

    The answer is None if there is no trigger, or nothing behind it that the task takes for one.
    """
    before, mark, after = text.rpartition(trigger.strip())
    extracted = task.extract_answer(f"{ANSWER_MARK} {after.strip()}") if mark else ""
    answer = " ".join(extracted.removeprefix(ANSWER_MARK).split())
    is_answer = bool(answer) and extracted.startswith(ANSWER_MARK)
    return " ".join((before if mark else text).split()), answer if is_answer else None


def judge(prediction: str | None, example: Example, task: Task) -> bool | None:
    """Whether a sample's answer is that of the example; None if that is unknown."""
    if not example.answer:
        return None
    wanted = f"{ANSWER_MARK} {example.answer}"
    return prediction is not None and task.is_correct(f"{ANSWER_MARK} {prediction}", wanted)


class CorpusWriter:
    """Appends samples to a corpus.

    A line is the operating system's at once, so that a kill loses none; a loss of power loses those
    of the last second, or those before a pause of the teacher.

    Args:
        folder: of the corpus; the caller has locked it.
        settings: what determines the corpus.

    Raises:
        RunError: the folder holds a corpus of other settings, or cannot be written.
        DataError: a line other than the last is damaged.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self.folder, self.settings = folder, json.loads(json.dumps(settings))
        self._file: IO[str] | None = None
        self._synchronized = 0.0
        with explain_refusal(folder):
            folder.mkdir(parents=True, exist_ok=True)
        if (folder / SETTINGS).exists():
            _check_same(read_settings(folder), self.settings, folder)
            _cut_torn_line(folder / SAMPLES)
        else:
            if (folder / SAMPLES).exists():
                raise RunError(f"{folder} has {SAMPLES} but no {SETTINGS}; set out= elsewhere.")
            _write_json(folder / SETTINGS, self.settings)
        path = folder / SAMPLES
        self.samples = list(read_lines(path)) if path.exists() else []

    def __enter__(self) -> "CorpusWriter":
        with explain_refusal(self.folder / SAMPLES):
            self._file = (self.folder / SAMPLES).open("a", encoding="utf-8", newline="")
        return self

    def __exit__(self, *_: object) -> None:
        assert self._file is not None
        with explain_refusal(self.folder / SAMPLES):
            self._synchronize(self._file)
            self._file.close()

    def append(self, sample: Sample) -> None:
        """Write a sample.

        Raises:
            RunError: it cannot be written.
        """
        assert self._file is not None
        with explain_refusal(self.folder / SAMPLES):
            self._file.write(sample.line())
            self._file.flush()
            if time.monotonic() - self._synchronized > SYNCHRONIZED:
                self._synchronize(self._file)
        self.samples.append(sample)

    def _synchronize(self, file: IO[str]) -> None:
        os.fsync(file.fileno())
        self._synchronized = time.monotonic()

    def finish(self) -> str:
        """Write the content hash of the complete corpus, and who wrote it; returns the hash."""
        found = content_hash(self.samples)
        models = sorted({s.model for s in self.samples if s.model})
        served = {SERVED: models} if models else {}
        _write_json(self.folder / SETTINGS, {**self.settings, **served, CONTENT_HASH: found})
        return found

    def write_usage(self, usage: Mapping[str, Any]) -> None:
        """Replace ``usage.json``."""
        _write_json(self.folder / USAGE, usage)


def read_settings(folder: Path) -> dict[str, Any]:
    """The content of ``samples.json``.

    Raises:
        DataError: it cannot be read.
    """
    return _read_json(folder / SETTINGS)


def read_usage(folder: Path) -> dict[str, Any]:
    """The content of ``usage.json``; empty before it is first written."""
    path = folder / USAGE
    return _read_json(path) if path.exists() else {}


def read_corpus(path: Path) -> list[Sample]:
    """The samples of a folder, or of a file of such lines, in the order of questions and samples.

    Raises:
        DataError: a line is damaged or lacks something, a sample is there twice, or there is none.
    """
    file = path / SAMPLES if path.is_dir() else path
    found: dict[tuple[int, int], Sample] = {}
    for sample in read_lines(file):
        if sample.key in found:
            raise DataError(f"{file}: sample {sample.sample} of question {sample.index} is twice.")
        found[sample.key] = sample
    if not found:
        raise DataError(f"{file}: there is no sample.")
    return [found[key] for key in sorted(found)]


def read_lines(file: Path) -> Iterator[Sample]:
    """The samples of a file, in its order.

    Raises:
        DataError: as of ``read_corpus``; the message names file and line.
    """
    try:
        with file.open("rb") as lines:
            for number, raw in enumerate(lines, start=1):
                try:
                    yield _sample_of(json.loads(raw))
                except (ValueError, RecursionError) as error:  # JSON's and UTF-8's errors, too
                    reason = error if type(error) is ValueError else "is not JSON"
                    is_ours = (file.parent / SETTINGS).is_file()
                    again = "; icot.sample then asks for that sample again" if is_ours else ""
                    raise DataError(
                        f"{file}, line {number}: {reason}. Remove the line{again}."
                    ) from None
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror}).") from None


def content_hash(samples: Iterable[Sample]) -> str:
    """A hash of the samples, whatever order they came in."""
    found = hashlib.sha256()
    for sample in sorted(samples, key=lambda s: s.key):
        content = {k: v for k, v in asdict(sample).items() if k not in NOT_CONTENT}
        found.update(_canonical(content))
    return found.hexdigest()


def _sample_of(line: Any) -> Sample:
    """The sample in a line.

    Raises:
        ValueError: it lacks something, or its checksum is wrong.
    """
    if not isinstance(line, dict):
        raise ValueError("is not a JSON object")
    checksum = line.pop(CHECKSUM, None)
    if checksum is not None and checksum != _checksum(line):
        raise ValueError("is damaged: its checksum is another one")
    values = {f.name: line[f.name] for f in fields(Sample) if f.name in line}
    if values.get("rationale") is None:
        values.pop("rationale", None)
    for name, value in values.items():
        kinds = KINDS[name]
        is_whole_number = type(value) is int and float in kinds
        if type(value) not in kinds and not is_whole_number:
            raise ValueError(f'has a "{name}" of the wrong type: {value!r:.60}')
    if missing := [name for name in NEEDED if name not in values]:
        raise ValueError(f'has no "{missing[0]}"')
    values.setdefault("rationale", " ".join(values["text"].split()))
    values.setdefault("correct", None)
    return Sample(**values)


NEEDED = ("index", "sample", "question", "answer", "text", "prediction")  # every line has it
KINDS = {name: get_args(hint) or (hint,) for name, hint in get_type_hints(Sample).items()}


def _check_same(kept: dict[str, Any], wanted: dict[str, Any], folder: Path) -> None:
    """Refuse to continue a corpus with other settings.

    Raises:
        RunError: some differ; the message names them.
    """
    for of_a_complete_one in (CONTENT_HASH, SERVED):
        kept.pop(of_a_complete_one, None)
    differing = [
        f"{key} was {_shown(kept.get(key))}, now {_shown(wanted.get(key))}"
        for key in sorted({*kept, *wanted})
        if kept.get(key) != wanted.get(key)
    ]
    if differing:
        raise RunError(
            f"{folder} holds a corpus of other settings: {'; '.join(differing)}. Set out= to "
            "another folder, or sample with the same settings to continue it."
        )


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 200 else f"{text[:200]}..."


def _cut_torn_line(path: Path) -> None:
    """Remove a last line whose end was not written."""
    if not path.exists():
        return
    with explain_refusal(path), path.open("r+b") as file:
        content = file.read()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            file.truncate(whole)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}).") from None
    except (ValueError, RecursionError):
        raise DataError(f"{path}: is not JSON.") from None
    if not isinstance(found, dict):
        raise DataError(f"{path}: is not a JSON object.")
    return found


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def _checksum(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(_canonical(values)).hexdigest()[:16]


def _canonical(values: Mapping[str, Any]) -> bytes:
    return json.dumps(values, sort_keys=True).encode()
