"""``icot.evaluate`` of a model that gets prompts: on a server, or in this process.

Composes the parts; ``icot.methods.prompting`` makes prompts and judges texts.
"""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from torch import nn

from icot.commands.build import build_task
from icot.commands.build_endpoint import build_endpoint
from icot.commands.sources import lines_of
from icot.config.command_line import CommandLine
from icot.config.entry_points import EvaluateConfig
from icot.config.experiments import GROUP as EXPERIMENT
from icot.config.predictor_options import EndpointPredictorConfig, PromptedPredictorConfig
from icot.config.prompt_options import NativePromptConfig
from icot.data.leading_tokens import decide_bos
from icot.errors import ConfigError
from icot.evaluation.failures import by_difficulty
from icot.evaluation.loading import Source
from icot.evaluation.measurement import as_rows
from icot.evaluation.predictions import write_predictions
from icot.inference.completions import Decoding, Request, Writer
from icot.inference.usage import Usage
from icot.methods.prompting.asking import ask, speed_of
from icot.methods.prompting.election import hold_election
from icot.methods.prompting.few_shot import AnyPrompt, name_of, prompt_hash
from icot.methods.prompting.local import PromptedModel
from icot.methods.prompting.questions import (
    Questions,
    figures_of,
    has_chain,
    judge_texts,
    read_questions,
)
from icot.models.loading import load_model
from icot.models.tokenizers import load_tokenizer
from icot.reporting.figures import failures
from icot.reporting.tables import print_prompted, print_votes
from icot.runs.directory import describe
from icot.runs.evaluations import keep_evaluation
from icot.runs.layout import (
    COMMAND,
    CONFIG,
    ENVIRONMENT,
    EVALUATION,
    FAILURES,
    PREDICTIONS,
    SUMMARY,
    USAGE,
)
from icot.system.files import write_text
from icot.system.hardware import device_for
from icot.system.machine import machine

HOME = "prompted"  # folder in paths.output_root
MAX_NEW_TOKENS = 600  # published, except for the chains of multiplication
WRITTEN = (EVALUATION, PREDICTIONS, USAGE, CONFIG, COMMAND, ENVIRONMENT, SUMMARY, FAILURES)
SUMMARIZED = ("title", "model", "task", "accuracy", "n", "speed")
AnyAsked = EndpointPredictorConfig | PromptedPredictorConfig


def score_prompted(cfg: EvaluateConfig, command: CommandLine) -> dict[str, Any]:
    """Ask, judge, write the files, print the table; returns what ``evaluation.json`` says."""
    predictor, prompt = cfg.predictor, cfg.prompt
    assert isinstance(predictor, AnyAsked)
    assert prompt is not None
    max_tokens = cfg.max_new_tokens or MAX_NEW_TOKENS
    source = _source(cfg)
    questions = read_questions(source, prompt, cfg.examples)
    if cfg.dry_run:
        return _dry_run(cfg, predictor, prompt, questions, max_tokens)
    home = Path(cfg.paths.output_root) / HOME
    home.mkdir(parents=True, exist_ok=True)
    votes = [f"vote-{predictor.n}"] if predictor.n > 1 else []
    named = (source.task.name, _name(predictor), name_of(prompt), cfg.split, *votes)
    timed = 0 if votes else cfg.speed.examples
    with keep_evaluation(home, cfg.out, WRITTEN, *named) as place:
        writer, usage = _build_writer(cfg, predictor, prompt, max_tokens)
        begun = datetime.now()
        try:
            written = ask(
                writer,
                _requests(predictor, questions),
                timed=timed,
                seconds=cfg.speed.seconds,
                max_truncated=prompt.max_truncated,
                max_tokens=max_tokens,
            )
        finally:
            print(usage)
        election = hold_election(questions, written, prompt) if votes else None
        chosen, voted = (election.chosen, election.voted) if election else (written, None)
        predictions = judge_texts(questions, chosen, prompt, voted)
        difficulties = [source.task.difficulty(example) for example in questions.examples]
        groups = by_difficulty(predictions, difficulties)
        speed = speed_of(written[:timed])
        majority = f", majority of {predictor.n}" if votes else ""
        record = place.keep(
            {
                "name": _name(predictor),
                "title": f"{_name(predictor)}, {name_of(prompt)}{majority}",
                "predictor": predictor.kind,
                "model": _model(predictor),
                "prompt": name_of(prompt),
                "with_chain": has_chain(prompt),
                "prompts_hash": prompt_hash("\0".join(questions.prompts)),
                "max_new_tokens": max_tokens,
                "comparison": prompt.comparison,
                "samples": predictor.n,
                **{key: getattr(predictor, key) for key in ("temperature", "top_p", "seed")},
                "task": source.task.name,
                "data": source.name,
                "split": source.split,
                **figures_of(predictions, written),
                **({"votes": election.figures} if election else {}),
                **({"speed": speed} if speed else {}),
                "usage": usage.as_dict(),
                **machine(),
                "failures": {name: as_rows(found) for name, found in groups.items()},
            }
        )
        write_predictions(place.folder / PREDICTIONS, predictions)
        _write_json(place.folder / USAGE, usage.as_dict())
        if any(groups.values()):
            failures(groups, place.folder / FAILURES, f"{record['title']}: where it fails")
        choices = dict(command.choices)
        facts = {"experiment": choices.get(EXPERIMENT), "choices": choices}
        describe(place.folder, cfg, command.text, facts, machine(), 0)
        took = {"seconds": (datetime.now() - begun).total_seconds()}
        summary = {key: record[key] for key in SUMMARIZED if key in record} | took
        _write_json(place.folder / SUMMARY, summary)
    print_prompted(Console(), record)
    print_votes(Console(), [record])
    print(f"Written into {place.folder}")
    return record


def _source(cfg: EvaluateConfig) -> Source:
    """The task's split, or ``data_file``; the task judges the answers of both."""
    assert cfg.task is not None
    task = build_task(cfg.task)
    if cfg.data_file is None:
        return Source.own(task, cfg.split)
    path = Path(cfg.data_file)
    return Source(task, lines_of(path, cfg.on_bad_line), "valid", str(path))


def _model(predictor: AnyAsked) -> str:
    """The model as it was asked for."""
    if isinstance(predictor, EndpointPredictorConfig):
        return predictor.model
    return predictor.name_or_path


def _name(predictor: AnyAsked) -> str:
    """The same without its folders."""
    return _model(predictor).rstrip("/").rpartition("/")[2]


def _build_writer(
    cfg: EvaluateConfig, predictor: AnyAsked, prompt: AnyPrompt, max_tokens: int
) -> tuple[Writer, Usage]:
    """What writes the texts, and what it will have used.

    Raises:
        UserError: the model cannot be loaded, or a package is missing.
    """
    if isinstance(predictor, EndpointPredictorConfig):
        decoding = _decoding(predictor, prompt, max_tokens)
        endpoint = build_endpoint(predictor, decoding, cfg.paths, predictor.budget)
        return endpoint, endpoint.usage
    named, key = predictor.name_or_path, "predictor.name_or_path"
    tokenizer = decide_bos(load_tokenizer(named, None, key), None)
    is_native = isinstance(prompt, NativePromptConfig)
    has_template = bool(getattr(tokenizer, "chat_template", None))
    if predictor.chat and (is_native or not has_template):
        reason = "prompt=native is no chat" if is_native else "the tokenizer has no chat template"
        raise ConfigError([f"predictor.chat=true: {reason}"])
    model: nn.Module = load_model(named, True, tokenizer, 1, dtype=predictor.dtype, key=key)
    local = PromptedModel(
        model.to(device_for(cfg.accelerator)),
        tokenizer,
        _decoding(predictor, prompt, max_tokens),
        cfg.batch_size,
        chat=has_template and not is_native and predictor.chat is not False,
        separators=3 - prompt.separators if isinstance(prompt, NativePromptConfig) else 1,
    )
    return local, local.usage


def _requests(predictor: AnyAsked, questions: Questions) -> list[Request]:
    is_server = isinstance(predictor, EndpointPredictorConfig)
    return questions.requests(predictor.n, predictor.seed, is_server)


def _decoding(predictor: AnyAsked, prompt: AnyPrompt, max_tokens: int) -> Decoding:
    return Decoding(max_tokens, predictor.temperature, predictor.top_p, tuple(prompt.stop))


def _dry_run(
    cfg: EvaluateConfig,
    predictor: AnyAsked,
    prompt: AnyPrompt,
    questions: Questions,
    max_tokens: int,
) -> dict[str, Any]:
    """Print the first prompt, and the number of requests with their bounds."""
    print(f"The first of {len(questions.prompts)} prompts:\n\n{questions.prompts[0]}\n")
    if not isinstance(predictor, EndpointPredictorConfig):
        return {}
    decoding = _decoding(predictor, prompt, max_tokens)
    endpoint = build_endpoint(predictor, decoding, cfg.paths, predictor.budget)
    requests = _requests(predictor, questions)
    bounds = endpoint.bounds(requests)
    print(bounds)
    if predictor.n > 1:
        print(f"If the server gives one text a request: {endpoint.bounds(requests, False)}")
    return {"requests": bounds.requests, "cached": bounds.cached, "cost": bounds.cost}


def _write_json(path: Path, content: dict[str, Any]) -> None:
    write_text(path, json.dumps(content, indent=2) + "\n")
