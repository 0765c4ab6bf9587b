"""``python -m icot.sample rescore=CORPUS``: log-probabilities for texts that are there already.

    python -m icot.sample rescore=theirs.jsonl teacher=model teacher.name_or_path=FOLDER out=...

``task.filter=likelihood`` needs them, and a corpus of another program, or of a server, may have
none. The lines are written anew with ``logprob`` and ``logprob_tokens`` under a teacher on this
machine, and are otherwise the same. Started again, the command goes on where it was.
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from icot.commands.build_teacher import Asked, build_teacher, task_of
from icot.commands.quiet import quiet_libraries
from icot.config.entry_points import SampleConfig
from icot.config.teacher_options import RunTeacherConfig
from icot.errors import ConfigError
from icot.inference.rating import rate
from icot.inference.teachers import LocalTeacher
from icot.methods.scotd.corpus import (
    CONTENT_HASH,
    FORMAT,
    SERVED,
    CorpusWriter,
    Sample,
    content_hash,
    read_corpus,
    read_settings,
)
from icot.methods.scotd.rationales import Rationales
from icot.system.output import lock_output
from icot.tasks.base import Example, Task

SAID = 5.0  # seconds between two lines of progress
OF_SAMPLING = (  # keys that say which texts are written, and how
    *("split", "examples", "samples", "temperature", "top_p", "max_new_tokens", "max_truncated"),
)


def rescore(cfg: SampleConfig) -> dict[str, Any]:
    """Rate the texts of ``cfg.rescore``; returns what ``usage.json`` says, nothing if dry.

    Raises:
        UserError: the corpus cannot be read, or the teacher not be built.
    """
    quiet_libraries()
    assert cfg.rescore is not None
    _check_keys(cfg)
    console = Console(highlight=False, soft_wrap=True)
    source, out = Path(cfg.rescore), Path(cfg.out)
    with lock_output(out):
        samples = read_corpus(source)
        questions = {s.index: Example(s.question, "", "") for s in samples}
        asked = build_teacher(cfg, _task_of(cfg, source), list(questions.values()))
        prompts = [_prompt(asked, s) for s in samples]
        if cfg.dry_run:
            console.print(f"{len(samples):,} texts to rate. Nothing was written. The first prompt:")
            console.print(prompts[0], markup=False)
            return {}
        kept = read_settings(source) if source.is_dir() else {"format": FORMAT}
        kept = {k: v for k, v in kept.items() if k not in (CONTENT_HASH, SERVED)}
        corpus = CorpusWriter(out, {**kept, "rescored": _settings(asked, samples)})
        return _rate(asked, samples, prompts, corpus, console)


def _check_keys(cfg: SampleConfig) -> None:
    fields = SampleConfig.model_fields
    mistakes = [
        f"{key} has no effect with rescore=, which writes no text: leave it out"
        for key in OF_SAMPLING
        if getattr(cfg, key) != fields[key].default
    ]
    if mistakes:
        raise ConfigError(mistakes)


def _task_of(cfg: SampleConfig, source: Path) -> Task | None:
    """The task that is named, the run's, or that of the corpus; a file names none."""
    if cfg.task is not None or isinstance(cfg.teacher, RunTeacherConfig):
        return task_of(cfg)[0]
    return Rationales(source).sampled


def _prompt(asked: Asked, sample: Sample) -> str:
    if asked.prompter is None:
        return sample.question
    return asked.prompter.prompt(sample.index, sample.question)


def _settings(asked: Asked, samples: Sequence[Sample]) -> dict[str, Any]:
    """What determines the log-probabilities."""
    return {
        "content": content_hash(samples),
        "teacher": {k: v for k, v in asked.identity.items() if k != "decoding"},
        "prompt": None if asked.prompter is None else asked.prompter.as_dict(),
        "batch_size": asked.batch,
    }


def _rate(
    asked: Asked,
    samples: Sequence[Sample],
    prompts: Sequence[str],
    corpus: CorpusWriter,
    console: Console,
) -> dict[str, Any]:
    """Rate each fixed batch that lacks something."""
    assert isinstance(asked.writer, LocalTeacher)
    assert asked.batch is not None
    there = {s.key for s in corpus.samples}
    begun = said = time.monotonic()
    if there:
        console.print(f"{corpus.folder}: {len(there):,} samples are there already.")
    with corpus:
        for start in range(0, len(samples), asked.batch):
            part = samples[start : start + asked.batch]
            if there.issuperset(s.key for s in part):
                continue
            asking = prompts[start : start + asked.batch]
            rated = rate(asked.writer, asking, [s.completion() for s in part])
            for sample, one in zip(part, rated, strict=True):
                if sample.key not in there:
                    found = replace(sample, logprob=one.logprob, logprob_tokens=one.logprob_tokens)
                    corpus.append(found)
            if time.monotonic() - said > SAID:
                said = time.monotonic()
                rate_of = (len(corpus.samples) - len(there)) / (said - begun)
                left = (len(samples) - len(corpus.samples)) / rate_of / 60
                console.print(
                    f"{len(corpus.samples):,} of {len(samples):,} samples, {rate_of:,.1f} "
                    f"samples/s, {left:,.1f} min left"
                )
    content = corpus.finish()
    usage = {
        "samples": len(samples),
        "logprob_tokens": sum(s.logprob_tokens or 0 for s in corpus.samples),
        "without_logprob": sum(s.logprob is None for s in corpus.samples),
        "seconds": time.monotonic() - begun,
    }
    corpus.write_usage(usage)
    long = f", {usage['without_logprob']:,} of them too long" if usage["without_logprob"] else ""
    console.print(
        f"{corpus.folder}: {len(samples):,} samples rated{long}; "
        f"{usage['logprob_tokens']:,} tokens in {usage['seconds']:,.1f} s. Content {content[:16]}."
    )
    return usage
