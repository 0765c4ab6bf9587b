"""``python -m icot.train``: take a model from explicit to implicit chain of thought.

    python -m icot.train task=mult9 model=gpt2
    python -m icot.train -m schedule.tokens_per_epoch=4,8 schedule.smoothing_lambda=2,4,inf

Composes the parts and calls them; the parts take named arguments, never the configuration.
"""

from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from icot.entry_point import plain, quiet_libraries, run


def train(cfg: DictConfig) -> None:
    """One run: data, model, training, and its record in ``cfg.paths.output_dir``."""
    from hydra.utils import instantiate
    from lightning import Trainer, seed_everything

    from icot.config_checks import check_values
    from icot.errors import ConfigError
    from icot.hardware import keep_freed_memory
    from icot.run_directory import MODEL, describe
    from icot.training.causal_lm import CausalLM
    from icot.training.datamodule import CoTDataModule

    if mistakes := check_values(cfg):
        raise ConfigError(mistakes)
    quiet_libraries()
    keep_freed_memory()
    folder = Path(cfg.paths.output_dir)
    seed_everything(cfg.seed, verbose=False)

    task = build_task(cfg)
    tokenizer = build_tokenizer(cfg, task)
    data = CoTDataModule(
        task,
        tokenizer,
        cache_dir=cfg.paths.cache_dir,
        batch_size=cfg.data.batch_size,
        seed=cfg.seed,
        side=cfg.schedule.side,
        keep_position_ids=cfg.schedule.keep_position_ids,
        max_train_tokens=cfg.data.max_train_tokens,
        num_workers=cfg.data.num_workers,
    )
    data.prepare_data()
    model = build_model(cfg, tokenizer, data.longest)
    module = CausalLM(
        model,
        optimizer=build_optimizer(cfg),
        warmup_steps=cfg.optimizer.warmup_steps,
        decay_steps=cfg.optimizer.decay_steps,
    )
    known = facts(cfg, model)
    trainer = Trainer(
        **trainer_arguments(cfg),
        callbacks=build_callbacks(cfg, folder, known),
        logger=build_loggers(cfg, folder),
        default_root_dir=folder,
    )
    for extra in plain(cfg.callbacks).values():
        trainer.callbacks.insert(0, instantiate(extra))  # type: ignore[attr-defined]
    if trainer.is_global_zero:
        describe(
            folder,
            cfg,
            {
                **known,
                "devices": trainer.world_size,
                "effective_batch_size": data.effective_batch_size(trainer),
            },
        )
        tokenizer.save_pretrained(folder / MODEL)
        model.config.save_pretrained(folder / MODEL)
    trainer.fit(module, datamodule=data)


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
    from icot.models.loading import load_model, with_lora

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
    return with_lora(model, **plain(cfg.model.lora)) if cfg.model.lora.r is not None else model


def build_optimizer(cfg: DictConfig) -> Any:
    """A function from a model to its optimizer."""
    from icot.training.optimizers import adamw, muon

    o = cfg.optimizer
    common = {"lr": o.lr, "weight_decay": o.weight_decay, "betas": tuple(o.betas), "eps": o.eps}
    if o.name == "muon":
        return partial(muon, **common, adamw_lr=o.adamw_lr, momentum=o.momentum)
    return partial(adamw, **common)


def build_schedule(cfg: DictConfig) -> Any:
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
        )
    return AdaptiveSchedule(
        threshold=s.threshold,
        patience=s.patience,
        min_batches=s.min_batches,
        decay=s.decay,
        tokens_per_stage=s.tokens_per_stage,
        stops=tuple(s.stops),
        remove_all_beyond=s.remove_all_beyond,
    )


def build_callbacks(cfg: DictConfig, folder: Path, known: dict[str, Any]) -> list[Any]:
    """The callbacks, in the order in which a stage's end reaches them; the schedule is last."""
    from lightning.pytorch.callbacks import ModelCheckpoint

    from icot.callbacks.optimizer_reset import OptimizerReset
    from icot.callbacks.progress import Progress
    from icot.callbacks.removal_schedule import RemovalSchedule
    from icot.callbacks.removal_smoothing import RemovalSmoothing
    from icot.callbacks.run_record import RunRecord
    from icot.callbacks.stage_checkpoint import StageCheckpoint
    from icot.callbacks.validation_accuracy import ValidationAccuracy
    from icot.run_directory import CHECKPOINTS

    s = cfg.schedule
    v = cfg.validation
    callbacks: list[Any] = [
        Progress(),
        RemovalSmoothing(s.smoothing_lambda),
        ValidationAccuracy(v.batch_size, v.examples, v.decode),
        StageCheckpoint(folder / CHECKPOINTS, cfg.checkpoints.every_stage),
    ]
    if s.reset_optimizer:
        callbacks.append(OptimizerReset(s.reset_warmup_steps))
    callbacks.append(RemovalSchedule(build_schedule(cfg)))
    callbacks.append(RunRecord(folder, title=known["task"], examples=v.shown, facts=known))
    if cfg.checkpoints.last:
        callbacks.append(
            ModelCheckpoint(
                folder / CHECKPOINTS,
                filename="last",
                save_top_k=1,
                enable_version_counter=False,
                save_on_train_epoch_end=True,
            )
        )
    return callbacks


def build_loggers(cfg: DictConfig, folder: Path) -> list[Any]:
    """metrics.csv always, and what the logger group adds."""
    from lightning.pytorch.loggers import CSVLogger

    from icot.errors import UserError

    loggers: list[Any] = [CSVLogger(folder, name="", version="", flush_logs_every_n_steps=20)]
    try:
        if cfg.logger.name == "tensorboard":
            from lightning.pytorch.loggers import TensorBoardLogger

            loggers.append(TensorBoardLogger(folder, name="", version="tensorboard"))
        if cfg.logger.name == "wandb":
            from icot.wandb_run import wandb_logger

            loggers.append(wandb_logger(cfg.logger, plain(cfg), folder))
    except ImportError as error:
        raise UserError(
            f"logger={cfg.logger.name} needs a package: pip install 'icot[{cfg.logger.name}]' "
            f"({error})."
        ) from None
    return loggers


def trainer_arguments(cfg: DictConfig) -> dict[str, Any]:
    """Arguments of Lightning's Trainer."""
    from icot.hardware import resolve_precision

    t = cfg.trainer
    return {
        "accelerator": t.accelerator,
        "devices": t.devices,
        "num_nodes": t.num_nodes,
        "strategy": t.strategy,
        "precision": resolve_precision(t.precision, t.accelerator, cfg.model.dtype),
        "max_epochs": t.max_epochs,
        "max_steps": t.max_steps,
        "max_time": t.max_time,
        "accumulate_grad_batches": t.accumulate_grad_batches,
        "gradient_clip_val": t.gradient_clip_val,
        "log_every_n_steps": t.log_every_n_steps,
        "deterministic": t.deterministic,
        "use_distributed_sampler": False,
        "enable_model_summary": False,
        "enable_progress_bar": True,
    }


def facts(cfg: DictConfig, model: Any) -> dict[str, Any]:
    """What is known of a run before it starts."""
    from hydra.core.hydra_config import HydraConfig

    choices = HydraConfig.get().runtime.choices if HydraConfig.initialized() else {}
    return {
        "task": choices.get("task", ""),
        "model": choices.get("model", ""),
        "schedule": choices.get("schedule", cfg.schedule.kind),
        "parameters": sum(p.numel() for p in model.parameters()),
        "seed": cfg.seed,
    }


def main() -> None:
    """The command."""
    run("train", train)


if __name__ == "__main__":
    main()
