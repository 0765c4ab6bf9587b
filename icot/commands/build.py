"""From a configuration to the parts of a run, which take named arguments and never see it."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from icot.cli import plain

if TYPE_CHECKING:
    from icot.data.views import View
    from icot.methods.base import Method
    from icot.runs.recovery import Recoveries
    from icot.training.metrics_file import MetricsFile

COMPILED_WIDTHS = 16  # a compiled model sees batches of so many columns, or a multiple


def build_task(cfg: DictConfig) -> Any:
    """The task, or one clear error."""
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate

    from icot.errors import ConfigError, UserError

    try:
        return instantiate(cfg.task)
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, UserError):
            raise cause from None
        raise ConfigError([f"task: {cause or error}"]) from None


def build_tokenizer(cfg: DictConfig, task: Any) -> Any:
    """The model's own tokenizer, or the one that the configuration names."""
    from icot.models.loading import load_tokenizer

    return load_tokenizer(cfg.model.tokenizer or cfg.model.name_or_path, task)


def build_model(cfg: DictConfig, tokenizer: Any, positions: int) -> Any:
    """The model, with adapters if asked for."""
    import torch

    from icot.models.attention_choice import quickest_attention
    from icot.models.loading import load_model, with_lora
    from icot.system.hardware import device_for, resolve_precision

    name = cfg.model.name_or_path
    if not cfg.model.pretrained and not Path(name).is_dir():
        name = cfg.model.architecture or name
    config = plain(cfg.model.config)
    if cfg.model.pretrained:  # the shape comes with the weights
        config = {
            k: v for k, v in config.items() if not k.startswith(("n_layer", "n_embd", "n_head"))
        }
    model = load_model(
        name,
        pretrained=cfg.model.pretrained,
        tokenizer=tokenizer,
        positions=positions,
        config=config,
        attn_implementation=cfg.model.attn_implementation,
        dtype=cfg.model.dtype,
    )
    if cfg.model.attn_implementation is None and device_for(cfg.trainer.accelerator).type == "cpu":
        precision = resolve_precision(
            cfg.trainer.precision, cfg.trainer.accelerator, cfg.model.dtype
        )
        autocast = torch.bfloat16 if precision == "bf16-mixed" else None
        model.set_attn_implementation(
            quickest_attention(model, cfg.data.batch_size, positions, autocast)
        )
    return with_lora(model, **plain(cfg.model.lora)) if cfg.model.lora.r is not None else model


def build_view(cfg: DictConfig, method: "Method", eos_token_id: int) -> "View":
    """What the method makes of a batch."""
    from icot.methods.base import ViewParts

    s, d = cfg.schedule, cfg.data
    parts = ViewParts(
        eos_token_id=eos_token_id,
        seed=cfg.seed,
        side=s.side,
        keep_position_ids=s.keep_position_ids,
        smoothing_lambda=s.smoothing_lambda,
        max_train_tokens=d.max_train_tokens,
        packing=d.packing,
        width_multiple=1 if cfg.model.compile is None else COMPILED_WIDTHS,
    )
    return method.build_view(parts, options_of(cfg))


def build_data(cfg: DictConfig, method: "Method", task: Any, tokenizer: Any) -> Any:
    """The data module; ``prepare_data`` is still to be called."""
    from icot.data.tokenized import separator_id
    from icot.training.datamodule import CoTDataModule

    return CoTDataModule(
        task,
        tokenizer,
        cache_dir=cfg.paths.cache_dir,
        view=build_view(cfg, method, separator_id(tokenizer)),
        batch_size=cfg.data.batch_size,
        seed=cfg.seed,
        num_workers=cfg.data.num_workers,
    )


def build_module(cfg: DictConfig, method: "Method", model: Any) -> Any:
    """The model in training."""
    from icot.methods.base import ModuleParts

    parts = ModuleParts(
        model=model,
        optimizer=build_optimizer(cfg),
        warmup_steps=cfg.optimizer.warmup_steps,
        decay_steps=cfg.optimizer.decay_steps,
        compile_mode=cfg.model.compile,
    )
    return method.build_module(parts, options_of(cfg))


def options_of(cfg: DictConfig) -> dict[str, Any]:
    """The method's own part of the configuration."""
    return plain(cfg.method) if "method" in cfg else {}


def build_optimizer(cfg: DictConfig) -> Any:
    """A function from a model to its optimizer."""
    from icot.training.optimizers import adamw, muon

    o = cfg.optimizer
    common = {"lr": o.lr, "weight_decay": o.weight_decay, "betas": tuple(o.betas), "eps": o.eps}
    if o.name == "muon":
        return partial(muon, **common, adamw_lr=o.adamw_lr, momentum=o.momentum)
    return partial(adamw, **common)


def build_schedule(cfg: DictConfig, recoveries: "Recoveries") -> Any:
    """The rule that says what is removed when."""
    from icot.schedule import AdaptiveSchedule, FixedSchedule, LinearSchedule

    s = cfg.schedule
    if s.kind == "fixed":
        return FixedSchedule(s.tokens_removed)
    if s.kind == "linear":
        return LinearSchedule(
            tokens_per_epoch=s.tokens_per_epoch,
            remove_all_beyond=s.remove_all_beyond,
            warmup_epochs=s.warmup_epochs,
            warmup_removed=s.warmup_removed,
            rounding=s.rounding,
            slowdowns=recoveries.slowdowns,
        )
    return AdaptiveSchedule(
        threshold=s.threshold,
        patience=s.patience,
        min_batches=s.min_batches,
        decay=s.decay,
        tokens_per_stage=s.tokens_per_stage,
        stops=tuple(s.stops),
        remove_all_beyond=s.remove_all_beyond,
        slowdowns=recoveries.slowdowns,
    )


def build_callbacks(
    cfg: DictConfig,
    method: "Method",
    folder: Path,
    known: dict[str, Any],
    metrics: "MetricsFile",
    recoveries: "Recoveries",
    loggers: list[Any],
) -> list[Any]:
    """The callbacks, in the order in which they are called: the run's, the method's, tracking's."""
    from icot.methods.base import CallbackParts, CollapseParts

    s, w = cfg.schedule, cfg.collapse
    watched = cfg.on_collapse != "ignore" and s.kind != "fixed"
    parts = CallbackParts(
        reset_optimizer=s.reset_optimizer,
        reset_warmup_steps=s.reset_warmup_steps,
        finish_steps=cfg.trainer.finish_steps,
        collapse=CollapseParts(w.share, w.validations, cfg.on_collapse == "rollback")
        if watched
        else None,
    )
    return [
        *build_run_callbacks(cfg, folder, known, metrics, recoveries),
        *method.build_callbacks(parts, options_of(cfg)),
        *build_tracking_callbacks(cfg, folder, [one for one in loggers if one is not metrics]),
    ]


def build_run_callbacks(
    cfg: DictConfig,
    folder: Path,
    known: dict[str, Any],
    metrics: "MetricsFile",
    recoveries: "Recoveries",
) -> list[Any]:
    """What every run has, in the order in which a stage's end reaches them."""
    from icot.reporting.finished_run import show_finished_run
    from icot.runs.layout import CHECKPOINTS
    from icot.system.signals import signals
    from icot.training.callbacks.checkpointing import Checkpointing
    from icot.training.callbacks.clock import Clock
    from icot.training.callbacks.device_use import DeviceUse
    from icot.training.callbacks.progress import Progress
    from icot.training.callbacks.run_record import RunRecord
    from icot.training.callbacks.stage_checkpoint import StageCheckpoint
    from icot.training.callbacks.stages import Stages
    from icot.training.callbacks.validation_accuracy import ValidationAccuracy

    v, c = cfg.validation, cfg.checkpoints
    show = partial(show_finished_run, title=known["task"], examples=v.shown)
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
        ValidationAccuracy(v.batch_size, v.examples, v.decode),
        StageCheckpoint(folder / CHECKPOINTS, c.every_stage),
        Stages(build_schedule(cfg, recoveries)),
        RunRecord(folder, facts=known, show=show),
    ]


def build_tracking_callbacks(cfg: DictConfig, folder: Path, loggers: list[Any]) -> list[Any]:
    """What tells the loggers beyond metrics.csv how quick a run is and how it has ended."""
    from icot.tracking.throughput import Throughput
    from icot.tracking.wandb_record import WandbRecord

    callbacks: list[Any] = [Throughput(one, cfg.trainer.log_every_n_steps) for one in loggers]
    if cfg.logger.name == "wandb":
        callbacks += [WandbRecord(one, folder) for one in loggers]
    return callbacks


def build_user_callbacks(cfg: DictConfig, ours: list[Any]) -> list[Any]:
    """The callbacks that the configuration names, to be called behind ``ours``.

    Raises:
        ConfigError: one of them is part of every run already.
    """
    from hydra.utils import instantiate

    from icot.errors import ConfigError

    found = {name: instantiate(one) for name, one in plain(cfg.callbacks).items()}
    built_in = {type(one) for one in ours}
    mistakes = [
        f"callbacks.{name}: {type(one).__name__} is part of every run already; leave it out"
        for name, one in found.items()
        if type(one) in built_in
    ]
    if mistakes:
        raise ConfigError(mistakes)
    return list(found.values())


def build_loggers(
    cfg: DictConfig, folder: Path, metrics: "MetricsFile", step: int, known: dict[str, Any]
) -> list[Any]:
    """metrics.csv always, and what the logger group adds.

    Args:
        cfg: the configuration.
        folder: the run directory.
        metrics: metrics.csv.
        step: where the run goes on.
        known: the facts of the run.
    """
    from icot.errors import UserError

    loggers: list[Any] = [metrics]
    try:
        if cfg.logger.name == "tensorboard":
            from lightning.pytorch.loggers import TensorBoardLogger

            # What a killed run has logged beyond its checkpoint is logged again.
            purge = step + 1 if step else None
            loggers.append(
                TensorBoardLogger(folder, name="", version="tensorboard", purge_step=purge)
            )
        if cfg.logger.name == "wandb":
            from icot.tracking.wandb_logger import wandb_logger

            loggers.append(wandb_logger(cfg.logger, plain(cfg), folder, known))
    except ImportError as error:
        raise UserError(
            f"logger={cfg.logger.name} needs a package: pip install 'icot[{cfg.logger.name}]' "
            f"({error})."
        ) from None
    return loggers


def trainer_arguments(cfg: DictConfig) -> dict[str, Any]:
    """Arguments of Lightning's Trainer."""
    from icot.system.hardware import resolve_precision
    from icot.training.checkpoint_io import SealedCheckpointIO
    from icot.training.fully_sharded import FullyShardedStrategy
    from icot.training.precision import HalfPrecisionWeights

    t = cfg.trainer
    precision: str | None = resolve_precision(t.precision, t.accelerator, cfg.model.dtype)
    plugins: list[Any] = [SealedCheckpointIO()]
    if precision == "bf16-true":
        plugins.append(HalfPrecisionWeights("bf16-true"))
        precision = None  # the plugin says it
    return {
        "accelerator": t.accelerator,
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
    cfg: DictConfig, model: Any, choices: dict[str, str], sweep: str | None = None
) -> dict[str, Any]:
    """What is known of a run before it starts.

    Args:
        cfg: its configuration.
        model: what is trained.
        choices: its options by group.
        sweep: the name of the sweep that it belongs to.
    """
    from icot.models.loading import config_of
    from icot.runs.resume import NOTHING

    experiment = choices.get("experiment", NOTHING)
    return {
        "experiment": None if experiment == NOTHING else experiment,
        "sweep": sweep,
        "task": choices.get("task", ""),
        "model": choices.get("model", ""),
        "schedule": choices.get("schedule", cfg.schedule.kind),
        "parameters": sum(p.numel() for p in model.parameters()),
        "attn_implementation": config_of(model)._attn_implementation,
        "seed": cfg.seed,
    }
