"""Builds a method from its configuration, and checks it against the rest of it."""

from collections.abc import Mapping, Sequence

from torch import nn

from icot.commands.build import build_task, build_tokenizer
from icot.config.checks import validate
from icot.config.kept import trusted_by
from icot.config.options import AnySchedule, FixedScheduleConfig, MethodConfig
from icot.config.schema import TrainConfig
from icot.errors import ConfigError
from icot.evaluation.loading import MakeModel
from icot.methods.base import Method, ModelParts, Options, SettingsParts, method_named


def build_method(option: MethodConfig, overrides: Sequence[str] = ()) -> tuple[Method, Options]:
    """The method's record, and the method's own keys, validated by the record's schema.

    Args:
        option: names the record, and holds the method's keys.
        overrides: of the command line, which may not set a group that the method does not use.

    Raises:
        ConfigError: the method does not exist or does not have a key, or the command line sets a
            group that the method does not use.
    """
    method = method_named(option.target)
    ignored = [
        f"{text}: method {method.name} does not use {group}; leave it out"
        for text in overrides
        for group in method.ignores
        if text.lstrip("+~").split("=")[0].split(".")[0] == group
    ]
    if ignored:
        raise ConfigError(ignored)
    try:
        return method, validate(option.arguments(), method.options)
    except ConfigError as error:
        no_key = "there is no "
        raise ConfigError(
            [
                f"{no_key}method.{m.removeprefix(no_key)}"
                if m.startswith(no_key)
                else f"method.{m}"
                for m in error.mistakes
            ]
        ) from None


def settle_method(
    cfg: TrainConfig,
    overrides: Sequence[str] = (),
    planned: Mapping[str, TrainConfig] | None = None,
) -> tuple[TrainConfig, Method, Options]:
    """As ``build_method``, after all checks of the method that need nothing but configurations.

    Args:
        cfg: of a run.
        overrides: of the command line.
        planned: configurations of runs that will have been trained by then, by directory.

    Returns:
        The configuration with what the method takes from the runs that it builds on, the method,
        and the method's own keys.

    Raises:
        ConfigError: the method refuses its keys, the schedule or another run.
        UserError: another run or the tokenizer cannot be read.
    """
    method, options = build_method(cfg.method, overrides)
    check_schedule(method, cfg.schedule)
    parts = SettingsParts(
        model=cfg.model,
        task=cfg.task.as_dict(),
        separators=cfg.schedule.separators,
        tokenizer=lambda: build_tokenizer(cfg.model, build_task(cfg.task), cfg.schedule),
        planned=planned or {},
        trusted=trusted_by(cfg),
    )
    settled = method.settle(parts, options)
    found = {k: v for k, v in settled.as_dict().items() if v != getattr(options, k)}
    kept = cfg.method.model_copy(update=found)
    return cfg.model_copy(update={"method": kept}), method, settled


def check_schedule(method: Method, schedule: AnySchedule) -> None:
    """Check that a method can train at what a schedule leaves.

    Raises:
        ConfigError: the method answers at once, and the schedule leaves something of the chain, or
            has a loss on it; or the method has no fillers, and the schedule asks for them.
    """
    removed = schedule.tokens_removed if isinstance(schedule, FixedScheduleConfig) else None
    mistakes = []
    if method.answers_at_once and removed != "all":
        mistakes.append(
            f"method={method.name} trains on questions and answers alone: set schedule=no_cot, or "
            "leave the schedule out"
        )
    if method.answers_at_once and schedule.chain_loss:
        mistakes.append(
            f"schedule.chain_loss has no effect with method={method.name}; leave it out"
        )
    if schedule.filler != "none" and not method.has_fillers:
        mistakes.append(f"schedule.filler={schedule.filler}: method {method.name} has no fillers")
    if mistakes:
        raise ConfigError(mistakes)


def model_maker(method: Method, options: Options) -> MakeModel:
    """Makes what a method trains from a causal LM."""

    def make(model: nn.Module, *, eos_token_id: int) -> nn.Module:
        return method.build_model(ModelParts(model, eos_token_id), options)

    return make
