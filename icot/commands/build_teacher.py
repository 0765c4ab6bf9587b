"""Builds the teacher of ``icot.sample`` from its configuration."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from icot.commands.build import build_task
from icot.commands.build_endpoint import build_endpoint
from icot.commands.build_method import build_method, model_maker
from icot.config.entry_points import SampleConfig
from icot.config.teacher_options import (
    EndpointTeacherConfig,
    ModelTeacherConfig,
    RunTeacherConfig,
)
from icot.data.fillers import filler_of
from icot.data.leading_tokens import decide_bos
from icot.data.staged import StagedExamples
from icot.data.tokenized import separator_id, tokenize_examples
from icot.errors import ConfigError
from icot.evaluation.loading import load_weights
from icot.inference.completions import Decoding, Writer
from icot.inference.teachers import ModelTeacher, RunTeacher, hash_of_weights
from icot.methods.base import PredictorParts
from icot.methods.scotd.corpus import read_settings
from icot.methods.scotd.prompts import Prompter, Template, find_exemplars
from icot.methods.scotd.rationales import Rationales
from icot.models.loading import load_model
from icot.models.tokenizers import load_tokenizer
from icot.runs.checkpoints import ALL, select
from icot.system.hardware import device_for
from icot.tasks.answers import ANSWER_MARK
from icot.tasks.base import Example, Task

if TYPE_CHECKING:
    from icot.inference.endpoint import Endpoint

MAX_NEW_TOKENS = 256  # as published
DECIDING = ("kind", "base_url", "api", "model")  # of a server's options, with what is sent besides


@dataclass(frozen=True)
class Asked:
    """A teacher and what it is asked.

    Attributes:
        writer: the model.
        identity: what decides its texts, for the corpus's record.
        prompter: makes prompts; None if a question is its own prompt.
        trigger: what stands before the answer in a text.
        batch: texts that are written together, and always the same ones, so that a continuation
            repeats them exactly; None if each text stands for itself.
        server: the writer, if it is a server's client.
    """

    writer: Writer
    identity: Mapping[str, Any]
    prompter: Prompter | None
    trigger: str
    batch: int | None
    server: "Endpoint | None" = None


class BuildTeacher(Protocol):
    """Builds the teacher of one kind."""

    def __call__(self, cfg: SampleConfig, task: Task | None, questions: Sequence[Example]) -> Asked:
        """The teacher of ``cfg``, for these questions of a task."""


def task_of(cfg: SampleConfig) -> tuple[Task, dict[str, Any]]:
    """The task that is sampled, and its keys.

    For ``task=rationales``, and so for a student's run, it is the task that its corpus was sampled
    from: the corpus has a question once for each sample.

    Raises:
        UserError: it cannot be made, or none is named.
    """
    option = cfg.task
    if option is None:
        if not isinstance(cfg.teacher, RunTeacherConfig):
            raise ConfigError(["task must be set: task=..., for any teacher but a run"])
        option = select(cfg.teacher.run_dir, None, cfg.teacher.stage, cfg.trust)[0].cfg.task
    task = build_task(option)
    if not isinstance(task, Rationales):
        return task, option.as_dict()
    if task.sampled is None:
        raise ConfigError(
            [f"task.samples={task.path} is not a folder that names its task: set task=..."]
        )
    return task.sampled, dict(read_settings(task.path)["task"])


def build_prompter(cfg: SampleConfig, task: Task | None) -> Prompter:
    """The prompts of a teacher that needs some.

    Raises:
        ConfigError, DataError: there are not enough exemplars.
    """
    template = Template(**cfg.template.as_dict())
    exemplars = find_exemplars(task, cfg.shots, cfg.exemplars, cfg.seed)
    return Prompter(template, exemplars, cfg.shuffle_exemplars, cfg.seed)


def build_decoding(cfg: SampleConfig, stop: Sequence[str] = ()) -> Decoding:
    """How samples are written."""
    return Decoding(
        max_tokens=cfg.max_new_tokens or MAX_NEW_TOKENS,
        temperature=cfg.temperature,
        top_p=cfg.top_p,
        stop=tuple(stop),
        logprobs=True,
    )


def build_teacher(cfg: SampleConfig, task: Task | None, questions: Sequence[Example]) -> Asked:
    """The teacher that the configuration names.

    Args:
        cfg: of the command.
        task: that is sampled; None if it is unknown, for a model without drawn exemplars.
        questions: that are asked.

    Raises:
        UserError: it cannot be loaded, or does not fit.
    """
    return BUILDERS[cfg.teacher.kind](cfg, task, questions)


def _build_run(cfg: SampleConfig, task: Task | None, questions: Sequence[Example]) -> Asked:
    option = cfg.teacher
    assert isinstance(option, RunTeacherConfig)
    assert task is not None
    if cfg.shots or cfg.exemplars is not None:
        raise ConfigError(["teacher=run takes no exemplars: leave out shots= and exemplars="])
    if option.stage == ALL:
        raise ConfigError(["teacher.stage=all: a teacher has the weights of one stage"])
    run, (checkpoint,) = select(option.run_dir, None, option.stage, cfg.trust)
    method, options = build_method(run.cfg.method)
    weights = load_weights(run, checkpoint, task, cfg.accelerator, model_maker(method, options))
    predictor = method.build_predictor(PredictorParts(weights.model, run.trusted), options)
    if predictor.settings.get("reads_the_gold_chain"):
        raise ConfigError([f"teacher.run_dir={option.run_dir}: it reads the chain it is to write"])
    eos, how = separator_id(weights.tokenizer), run.cfg.schedule
    removed = checkpoint.tokens_removed or 0
    store = tokenize_examples(questions, weights.tokenizer)
    staged = StagedExamples(store, np.arange(len(store)), removed, eos)
    decoding = build_decoding(
        cfg.model_copy(update={"max_new_tokens": cfg.max_new_tokens or staged.longest_target})
    )
    teacher = RunTeacher(
        weights.model,
        weights.tokenizer,
        decoding,
        cfg.batch_size,
        tokens_removed=removed,
        side=how.side,
        keep_position_ids=how.jumping_ids,
        before_answer=how.separators,
        fillers=filler_of(how, weights.tokenizer).counts(removed),
    )
    identity = {**option.as_dict(), "weights": hash_of_weights(weights.model)}
    return Asked(teacher, _with(decoding, identity), None, ANSWER_MARK, cfg.batch_size)


def _build_model(cfg: SampleConfig, task: Task | None, questions: Sequence[Example]) -> Asked:
    option = cfg.teacher
    assert isinstance(option, ModelTeacherConfig)
    prompter = build_prompter(cfg, task)
    key = "teacher.name_or_path"
    own = load_tokenizer(
        option.tokenizer or option.name_or_path,
        task,
        "teacher.tokenizer" if option.tokenizer else key,
    )
    tokenizer = decide_bos(own, None)
    model = load_model(option.name_or_path, True, tokenizer, 1, dtype=option.dtype, key=key)
    decoding = build_decoding(cfg, [cfg.template.stop])
    teacher = ModelTeacher(
        model.to(device_for(cfg.accelerator)),  # type: ignore[arg-type]
        tokenizer,
        decoding,
        cfg.batch_size,
    )
    identity = {**option.as_dict(), "weights": hash_of_weights(model)}
    return Asked(teacher, _with(decoding, identity), prompter, cfg.template.trigger, cfg.batch_size)


def _build_endpoint(cfg: SampleConfig, task: Task | None, questions: Sequence[Example]) -> Asked:
    option = cfg.teacher
    assert isinstance(option, EndpointTeacherConfig)
    prompter = build_prompter(cfg, task)
    decoding = replace(build_decoding(cfg, [cfg.template.stop]), logprobs=option.logprobs)
    server = build_endpoint(option, decoding, cfg.paths, cfg.budget)
    identity = {key: getattr(option, key) for key in DECIDING}
    identity["extra_body"] = option.extra_body or {}
    return Asked(server, _with(decoding, identity), prompter, cfg.template.trigger, None, server)


def _with(decoding: Decoding, identity: dict[str, Any]) -> dict[str, Any]:
    return {**identity, "decoding": asdict(decoding)}


BUILDERS: Mapping[str, BuildTeacher] = {
    "run": _build_run,
    "model": _build_model,
    "endpoint": _build_endpoint,
}
