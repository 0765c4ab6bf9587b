"""Builds the components of a run from its typed configuration; they get named arguments only."""

import inspect
import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from hydra.utils import get_class
from torch import nn
from torch.optim import Optimizer
from transformers import PreTrainedTokenizerBase

from icot.config.kept import trusted_by
from icot.config.options import (
    AdaptiveScheduleConfig,
    AnyOptimizer,
    AnySchedule,
    AnyTask,
    FixedScheduleConfig,
    LinearScheduleConfig,
    MuonConfig,
    OtherScheduleConfig,
    ScheduleOptions,
)
from icot.config.schema import ModelConfig, TrainConfig
from icot.config.section import OfAnotherPackage
from icot.data.fillers import add_filler, filler_of
from icot.data.leading_tokens import decide_bos
from icot.data.tokenized import separator_id
from icot.data.views import View
from icot.errors import ConfigError, UserError, in_one_line
from icot.methods.base import Method, ModuleParts, Options, ViewParts
from icot.models.adapters import add_lora
from icot.models.attention_choice import fastest_attention
from icot.models.loading import load_model
from icot.models.position_check import check_kept_positions, check_packing
from icot.models.tokenizers import load_tokenizer
from icot.removal import length_after
from icot.runs.recovery import Recoveries
from icot.schedule import AdaptiveSchedule, FixedSchedule, LinearSchedule, Schedule
from icot.system.hardware import device_for, resolve_precision
from icot.tasks.base import Task
from icot.training.datamodule import CoTDataModule
from icot.training.module import TrainingModule
from icot.training.optimizers import adamw, muon

log = logging.getLogger(__name__)

COMPILED_WIDTHS = 16  # a compiled model sees batches of so many columns, or a multiple
# What of model.config is the shape, which pretrained weights bring along.
SHAPE = ("n_layer", "n_embd", "n_head")
T = TypeVar("T")


def make(kind: type[T], option: OfAnotherPackage, **further: Any) -> T:
    """Make an object of a class of a user's package.

    Args:
        kind: the base class that the class must have.
        option: names the class, and holds its arguments.
        further: arguments that are passed only if the class has parameters of these names.

    Raises:
        ConfigError: the class does not exist, has another base class, or does not take a key.
    """
    try:
        own = get_class(option.target)
    except Exception as error:  # importing a user's module can raise anything
        raise ConfigError([f"{option.target}: cannot be imported: {in_one_line(error)}"]) from None
    if not issubclass(own, kind):
        raise ConfigError([f"{option.target} is not a subclass of icot.{kind.__name__}"])
    if inspect.isabstract(own):
        lacking = ", ".join(sorted(getattr(own, "__abstractmethods__", ())))
        raise ConfigError([f"{option.target} does not define {lacking}"])
    wanted = inspect.signature(own).parameters
    arguments = {**option.arguments(), **{k: v for k, v in further.items() if k in wanted}}
    try:
        inspect.signature(own).bind(**arguments)
    except TypeError as error:
        known = ", ".join(wanted)
        raise ConfigError([f"{option.target}: {error}; its keys are {known}"]) from None
    return own(**arguments)


def build_task(option: AnyTask) -> Task:
    """The task.

    Raises:
        UserError: the task refuses its values.
    """
    try:
        if isinstance(option, OfAnotherPackage):
            return make(Task, option)  # type: ignore[type-abstract]
        values = option.as_dict()
        made: Task = get_class(values.pop("_target_"))(**values)
        return made
    except UserError:
        raise
    except ValueError as error:
        raise ConfigError([f"task: {error}"]) from None


def build_tokenizer(
    model: ModelConfig, task: Task, schedule: ScheduleOptions | None = None
) -> PreTrainedTokenizerBase:
    """The model's own tokenizer, or the one that the configuration names.

    Args:
        model: of the configuration.
        task: whose symbols a tokenizer may have to know.
        schedule: with fillers, it gives the tokenizer a token for them.

    Raises:
        ModelError: it cannot be loaded, or has no token that the data need.
    """
    tokenizer = load_tokenizer(model.tokenizer or model.name_or_path, task)
    if schedule is not None and schedule.filler != "none":
        add_filler(tokenizer)
    return decide_bos(tokenizer, model.add_bos)


def build_model(cfg: TrainConfig, tokenizer: PreTrainedTokenizerBase, positions: int) -> nn.Module:
    """The model for sequences of ``positions`` tokens, with adapters if asked for.

    Raises:
        ModelError: it cannot be loaded, or cannot do what the configuration asks for.
    """
    name = cfg.model.name_or_path
    if not cfg.model.pretrained and not Path(name).is_dir():
        name = cfg.model.architecture or name
    config = dict(cfg.model.config)
    if cfg.model.pretrained:  # the shape comes with the weights
        config = {k: v for k, v in config.items() if not k.startswith(SHAPE)}
    model = load_model(
        name,
        pretrained=cfg.model.pretrained,
        tokenizer=tokenizer,
        positions=positions,
        config=config,
        attn_implementation=cfg.model.attn_implementation,
        dtype=cfg.model.dtype,
        may_grow=cfg.schedule.filler != "none",
    )
    if cfg.model.attn_implementation is None and device_for(cfg.trainer.accelerator).type == "cpu":
        precision = resolve_precision(
            cfg.trainer.precision, cfg.trainer.accelerator, cfg.model.dtype
        )
        autocast = torch.bfloat16 if precision == "bf16-mixed" else None
        model.set_attn_implementation(
            fastest_attention(model, cfg.data.batch_size, positions, autocast)
        )
    if cfg.data.packing:
        check_packing(model, name)
    if cfg.schedule.jumping_ids:
        check_kept_positions(model, name)
    return add_lora(model, **cfg.model.lora.as_dict()) if cfg.model.lora.r is not None else model


def build_view(
    cfg: TrainConfig, method: Method, options: Options, tokenizer: PreTrainedTokenizerBase
) -> View:
    """The method's view of a batch."""
    parts = ViewParts(
        eos_token_id=separator_id(tokenizer),
        seed=cfg.seed,
        side=cfg.schedule.side,
        keep_position_ids=cfg.schedule.jumping_ids,
        smoothing_lambda=cfg.schedule.smoothing_lambda,
        dial_share=cfg.schedule.dial_share,
        max_train_tokens=cfg.data.max_train_tokens,
        packing=cfg.data.packing,
        width_multiple=1 if cfg.model.compile is None else COMPILED_WIDTHS,
        with_chains=cfg.schedule.chain_loss > 0,
        separators=cfg.schedule.separators,
        filler=filler_of(cfg.schedule, tokenizer),
    )
    return method.build_view(parts, options)


def build_data(
    cfg: TrainConfig, task: Task, tokenizer: PreTrainedTokenizerBase, view: View
) -> CoTDataModule:
    """The data module; the caller calls ``prepare_data``."""
    return CoTDataModule(
        task,
        tokenizer,
        cache_dir=cfg.paths.cache_dir,
        view=view,
        batch_size=cfg.data.batch_size,
        seed=cfg.seed,
        num_workers=cfg.data.num_workers,
    )


def warn_of_told_lengths(data: CoTDataModule) -> None:
    """Say so if fillers tell the model more than a question does: how long its chain was."""
    store = data.split("train")
    if data.view.filler.count is None and np.ptp(store.cot_end - store.cot_start):
        log.warning(
            "schedule.filler=one_for_one: chains differ in length, so the fillers tell the model "
            "how long the chain of a question was, in evaluation too. schedule.filler=fixed does "
            "not."
        )


def check_lengths(cfg: TrainConfig, data: CoTDataModule) -> None:
    """Check that ``data.max_train_tokens`` leaves examples to train on.

    Raises:
        ConfigError: at every stage, or at a first stage that never ends, fewer than one example of
            an epoch is short enough, the offsets of smoothing included.
    """
    most, store = cfg.data.max_train_tokens, data.split("train")
    if most is None:
        return
    schedule, removed = cfg.schedule, store.longest_cot
    advice = "set a larger one, or null"
    if isinstance(schedule, FixedScheduleConfig) and schedule.tokens_removed != "all":
        removed = schedule.tokens_removed
    if isinstance(schedule, AdaptiveScheduleConfig) and schedule.patience is None:
        removed = 0
        advice += "; or set schedule.patience, with which a stage ends that trains on nothing"
    lengths = np.diff(store.offsets)
    left, least = (
        length_after(lengths, store.cot_start, store.cot_end, n)
        for n in (removed, store.longest_cot)
    )
    left, least = (n + data.view.filler.counts(lengths - n) for n in (left, least))
    # P(offset >= o) = exp(-lambda o), for the o tokens by which an example is too long.
    excess = (left - most)[(left > most) & (least <= most)]
    if left.min() > most and np.exp(-schedule.smoothing_lambda * excess).sum() < 1:
        raise ConfigError(
            [
                f"data.max_train_tokens={most} leaves nothing to train on: with {removed} tokens "
                f"of the chain removed, the shortest example has {left.min()}; {advice}"
            ]
        )


def build_module(
    cfg: TrainConfig,
    method: Method,
    options: Options,
    model: nn.Module,
    data: CoTDataModule,
) -> TrainingModule:
    """The model in training, on the data of ``data``."""
    parts = ModuleParts(
        model=model,
        optimizer=build_optimizer(cfg.optimizer),
        warmup_steps=cfg.optimizer.warmup_steps,
        decay_steps=cfg.optimizer.decay_steps,
        compile_mode=cfg.model.compile,
        method=method.name,
        chain_loss=cfg.schedule.chain_loss,
        chain_loss_layers=cfg.schedule.chain_loss_layers,
        longest_cot=data.longest_cot,
        count_first=getattr(cfg.schedule, "count_first", False),
        tokenizer=data.tokenizer,
        trusted=trusted_by(cfg),
    )
    return method.build_module(parts, options)


def build_optimizer(option: AnyOptimizer) -> Callable[[nn.Module], Optimizer]:
    """A function from a model to its optimizer."""
    beta1, beta2 = option.betas
    common = partial(
        muon if isinstance(option, MuonConfig) else adamw,
        lr=option.lr,
        weight_decay=option.weight_decay,
        betas=(beta1, beta2),
        eps=option.eps,
    )
    if isinstance(option, MuonConfig):
        return partial(common, adamw_lr=option.adamw_lr, momentum=option.momentum)
    return common


def build_schedule(option: AnySchedule, recoveries: Recoveries) -> Schedule:
    """The schedule, slowed down by each return to a checkpoint after a collapse."""
    match option:
        case FixedScheduleConfig():
            return FixedSchedule(option.tokens_removed)
        case LinearScheduleConfig():
            return LinearSchedule(
                tokens_per_epoch=option.tokens_per_epoch,
                removal_batches=option.removal_batches,
                remove_all_beyond=option.remove_all_beyond,
                warmup_epochs=option.warmup_epochs,
                warmup_removed=option.warmup_removed,
                rounding=option.rounding,
                slowdowns=recoveries.slowdowns,
            )
        case AdaptiveScheduleConfig():
            return AdaptiveSchedule(
                threshold=option.threshold,
                finish_threshold=option.finish_threshold,
                patience=option.patience,
                min_batches=option.min_batches,
                decay=option.decay,
                tokens_per_stage=option.tokens_per_stage,
                stops=tuple(option.stops),
                remove_all_beyond=option.remove_all_beyond,
                slowdowns=recoveries.slowdowns,
            )
        case OtherScheduleConfig():
            return make(Schedule, option, slowdowns=recoveries.slowdowns)  # type: ignore[type-abstract]
