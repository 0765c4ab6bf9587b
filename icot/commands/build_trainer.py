"""Builds the arguments, callbacks and loggers of Lightning's Trainer from the configuration."""

from functools import partial
from pathlib import Path
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger
from torch import nn

from icot.commands.build import build_schedule
from icot.config.checks import mistakes_of_callbacks
from icot.config.command_line import NOTHING
from icot.config.kept import trusted_by
from icot.config.options import FixedScheduleConfig
from icot.config.schema import TrainConfig, ValidationConfig
from icot.errors import ConfigError, UserError, first_sentence, in_one_line
from icot.inference.predictor import Predictor
from icot.methods.base import (
    CallbackParts,
    CollapseParts,
    Method,
    Options,
    PredictorParts,
    ValidationParts,
)
from icot.models.introspection import config_of
from icot.reporting.finished_run import show_finished_run
from icot.runs.layout import CHECKPOINTS
from icot.runs.recovery import Recoveries
from icot.system.hardware import device_for, resolve_precision
from icot.system.signals import signals
from icot.tracking.throughput import Throughput
from icot.tracking.wandb_logger import wandb_logger
from icot.tracking.wandb_record import WandbRecord
from icot.training.callbacks.checkpointing import Checkpointing
from icot.training.callbacks.clock import Clock
from icot.training.callbacks.device_use import DeviceUse
from icot.training.callbacks.progress import Progress
from icot.training.callbacks.run_record import RunRecord
from icot.training.callbacks.stage_checkpoint import StageCheckpoint
from icot.training.callbacks.stages import Stages
from icot.training.callbacks.validation_accuracy import ValidationAccuracy
from icot.training.checkpoint_io import SealedCheckpointIO
from icot.training.fully_sharded import FullyShardedStrategy
from icot.training.metrics_file import MetricsFile
from icot.training.precision import HalfPrecisionWeights

# For these icot chooses the device, as for precision and evaluation: for auto and gpu Lightning
# would choose Apple's GPU, which has no float64.
CHOSEN_HERE = ("auto", "gpu", "cuda", "cpu")


def build_callbacks(
    cfg: TrainConfig,
    method: Method,
    options: Options,
    known: dict[str, Any],
    metrics: MetricsFile,
    recoveries: Recoveries,
    loggers: list[Logger],
) -> list[Callback]:
    """icot's callbacks in the order of their calls: the run's, the method's, those for tracking."""
    s, w = cfg.schedule, cfg.collapse
    watched = cfg.on_collapse != "ignore" and not isinstance(s, FixedScheduleConfig)
    collapse = CollapseParts(w.share, w.validations, stop=cfg.on_collapse == "rollback")
    parts = CallbackParts(
        reset_optimizer=s.reset_optimizer,
        reset_warmup_steps=s.reset_warmup_steps,
        finish_steps=cfg.trainer.finish_steps,
        collapse=collapse if watched else None,
    )
    return [
        *_run_callbacks(cfg, method, options, known, metrics, recoveries),
        *method.build_callbacks(parts, options),
        *_tracking_callbacks(cfg, [logger for logger in loggers if logger is not metrics]),
    ]


def _run_callbacks(
    cfg: TrainConfig,
    method: Method,
    options: Options,
    known: dict[str, Any],
    metrics: MetricsFile,
    recoveries: Recoveries,
) -> list[Callback]:
    """The callbacks of every run, in the order in which they are told of a stage's end."""
    folder, v, c = Path(cfg.paths.output_dir), cfg.validation, cfg.checkpoints
    show = partial(show_finished_run, title=known["task"], examples=v.shown)

    def predictor(model: nn.Module) -> Predictor:
        parts = PredictorParts(model, trusted_by(cfg), v.batch_size, v.decode)
        return method.build_predictor(parts, options)

    validation: list[Callback] = [
        ValidationAccuracy(
            predictor,
            v.examples,
            method.measures,
            every_steps=v.every_steps,
            max_new_tokens=v.max_new_tokens or 0,
        ),
        StageCheckpoint(
            folder / CHECKPOINTS,
            c.every_stage,
            at_any_stage=isinstance(cfg.schedule, FixedScheduleConfig),
        ),
    ]
    if method.build_validation is not None:
        _check_own_validation(v)
        own = ValidationParts(folder / CHECKPOINTS, v.examples, v.batch_size)
        validation = method.build_validation(own, options)
    return [
        Checkpointing(
            folder / CHECKPOINTS,
            metrics,
            signals,
            every_steps=c.every_steps,
            every_minutes=c.every_minutes,
            keep=c.keep,
            requeue=cfg.trainer.requeue and cfg.resume is not None,
        ),
        Progress(),
        DeviceUse(),
        Clock(cfg.seed),
        *validation,
        Stages(build_schedule(cfg.schedule, recoveries)),
        RunRecord(folder, facts=known, show=show, measures=method.measures),
    ]


def _check_own_validation(v: ValidationConfig) -> None:
    """Refuse keys that a method with a validation of its own does not heed.

    Raises:
        ConfigError: one is set.
    """
    given = {"every_steps": v.every_steps, "max_new_tokens": v.max_new_tokens}
    mistakes = [
        f"validation.{key}={value} has no effect with this method, which is scored at the end of "
        "each epoch and writes nothing"
        for key, value in given.items()
        if value is not None
    ]
    if mistakes:
        raise ConfigError(mistakes)


def _tracking_callbacks(cfg: TrainConfig, loggers: list[Logger]) -> list[Callback]:
    """The callbacks that send throughput and results to the loggers other than metrics.csv."""
    callbacks: list[Callback] = []
    for logger in loggers:
        callbacks.append(Throughput(logger, cfg.trainer.log_every_n_steps))
        if isinstance(logger, WandbLogger):
            callbacks.append(WandbRecord(logger, Path(cfg.paths.output_dir)))
    return callbacks


def build_user_callbacks(named: dict[str, Any]) -> dict[str, Callback]:
    """The callbacks that the configuration names, by name.

    Raises:
        ConfigError: one cannot be made, or is no callback.
    """
    if mistakes := mistakes_of_callbacks(named):  # a resumed run's are not checked before
        raise ConfigError(mistakes)
    found = {}
    for name, settings in named.items():
        shown = f"callbacks.{name}._target_={settings['_target_']}"
        try:
            one = instantiate(settings)
        except InstantiationException as error:
            reason = in_one_line(error.__cause__ or error)
            raise ConfigError([f"{shown}: cannot be made: {reason}"]) from None
        if not isinstance(one, Callback):
            raise ConfigError([f"{shown} must be a class of Lightning callbacks"])
        found[name] = one
    return found


def add_user_callbacks(found: dict[str, Callback], callbacks: list[Callback]) -> None:
    """Add the callbacks of the configuration to those of a run, to be called behind them.

    Raises:
        ConfigError: one is part of every run already.
    """
    built_in = {type(one) for one in callbacks}
    mistakes = [
        f"callbacks.{name}: {type(one).__name__} is part of every run already; leave it out"
        for name, one in found.items()
        if type(one) in built_in
    ]
    if mistakes:
        raise ConfigError(mistakes)
    callbacks.extend(found.values())


def check_devices(cfg: TrainConfig) -> None:
    """Let Lightning check devices and strategy on this machine, before anything takes time.

    Raises:
        ConfigError: the machine does not have them.
    """
    t, settings = cfg.trainer, trainer_arguments(cfg)
    wants_gpus = isinstance(t.devices, list) or str(t.devices) == "-1" or "," in str(t.devices)
    if settings["accelerator"] == "cpu" and wants_gpus:
        raise ConfigError(
            [
                f"trainer.devices={t.devices} chooses among GPUs, and training is on the CPU here; "
                "set a number of processes, trainer.devices=2"
            ]
        )
    try:
        Trainer(**settings | {"logger": False, "enable_progress_bar": False})
    except Exception as error:  # Lightning raises many kinds
        shown = f"accelerator={t.accelerator}, devices={t.devices}, strategy={t.strategy}"
        raise ConfigError(
            [f"trainer: Lightning refuses {shown} here: {first_sentence(error)}"]
        ) from None


def build_loggers(
    cfg: TrainConfig, metrics: MetricsFile, step: int, known: dict[str, Any]
) -> list[Logger]:
    """The logger of metrics.csv, and the one that the group ``logger`` adds.

    Args:
        cfg: the configuration.
        metrics: metrics.csv.
        step: at which the run resumes.
        known: the facts of the run.
    """
    folder = Path(cfg.paths.output_dir)
    loggers: list[Logger] = [metrics]
    try:
        if cfg.logger.name == "tensorboard":
            # What a killed run has logged beyond its checkpoint is logged again.
            purge = step + 1 if step else None
            loggers.append(
                TensorBoardLogger(folder, name="", version="tensorboard", purge_step=purge)
            )
        if cfg.logger.name == "wandb":
            loggers.append(wandb_logger(cfg.logger, cfg.as_dict(), folder, known))
    except ImportError as error:
        raise UserError(
            f"logger={cfg.logger.name} needs a package: pip install 'icot[{cfg.logger.name}]' "
            f"({error})."
        ) from None
    return loggers


def trainer_arguments(cfg: TrainConfig) -> dict[str, Any]:
    """Arguments of Lightning's Trainer."""
    t = cfg.trainer
    accelerator = device_for(t.accelerator).type if t.accelerator in CHOSEN_HERE else t.accelerator
    precision: str | None = resolve_precision(t.precision, t.accelerator, cfg.model.dtype)
    plugins: list[Any] = [SealedCheckpointIO()]
    if precision == "bf16-true":
        plugins.append(HalfPrecisionWeights("bf16-true"))
        precision = None  # the plugin says it
    return {
        "accelerator": accelerator,
        "devices": t.devices,
        "num_nodes": t.num_nodes,
        "strategy": FullyShardedStrategy() if t.strategy == "fsdp" else t.strategy,
        "precision": precision,
        "max_epochs": t.max_epochs,
        "max_steps": t.max_steps,
        "max_time": t.max_time,
        "accumulate_grad_batches": t.accumulate_grad_batches,
        "gradient_clip_val": t.gradient_clip_val,
        "log_every_n_steps": t.log_every_n_steps,
        "deterministic": t.deterministic,
        "use_distributed_sampler": False,
        "plugins": plugins,
        "enable_checkpointing": False,
        "enable_model_summary": False,
        "enable_progress_bar": True,
    }


def facts(
    cfg: TrainConfig, model: nn.Module, choices: dict[str, str], sweep: Path | None = None
) -> dict[str, Any]:
    """The facts of a run that are known before it starts.

    Args:
        cfg: its configuration.
        model: what is trained.
        choices: its options by group.
        sweep: the directory of the sweep that it belongs to.
    """
    experiment = choices.get("experiment", NOTHING)
    return {
        "experiment": None if experiment == NOTHING else experiment,
        "sweep": None if sweep is None else sweep.name,
        "task": choices.get("task", ""),
        "model": choices.get("model", ""),
        "schedule": choices.get("schedule", cfg.schedule.kind),
        "parameters": sum(p.numel() for p in model.parameters()),
        "attn_implementation": config_of(model)._attn_implementation,
        "seed": cfg.seed,
    }
