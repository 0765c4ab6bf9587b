"""``python -m icot.train``: take a model from explicit to implicit chain of thought.

    python -m icot.train task=mult9 model=gpt2
    python -m icot.train -m schedule.tokens_per_epoch=4,8 schedule.smoothing_lambda=2,4,inf
    python -m icot.train resume=outputs/RUN

Composes the parts and calls them.
"""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from icot.runs.position import Position
    from icot.runs.recovery import Recoveries


def train(cfg: "DictConfig") -> None:
    """One run, begun or gone on with, and its record in ``cfg.paths.output_dir``."""
    from hydra.core.hydra_config import HydraConfig
    from lightning.fabric.utilities.rank_zero import rank_zero_only

    from icot.cli import quiet_libraries
    from icot.config.checks import check_values
    from icot.errors import ConfigError
    from icot.runs.directory import chosen_options, locked
    from icot.runs.position import End, find_position, is_complete
    from icot.runs.recovery import Recoveries, RollbackError, go_back
    from icot.runs.resume import plain_options, settled
    from icot.system.hardware import keep_freed_memory

    quiet_libraries()
    folder = Path(cfg.paths.output_dir)
    first = getattr(rank_zero_only, "rank", 0) == 0
    hydra = HydraConfig.get()
    with locked(folder, first):
        choices = chosen_options(folder) or plain_options(hydra.runtime.choices)
        cfg = settled(cfg, folder, list(hydra.overrides.task), first)
        if mistakes := check_values(cfg):
            raise ConfigError(mistakes)
        t = cfg.trainer
        end = End(t.max_steps, t.max_epochs, t.finish_steps)
        position = find_position(folder, end, first)
        if is_complete(folder, end, position):
            print(f"{folder} is complete; trainer.max_steps= or max_epochs= would make it longer.")
            return
        keep_freed_memory()
        recoveries = Recoveries(folder)
        while True:
            try:
                return fit(cfg, folder, choices, position, recoveries)
            except RollbackError as error:
                position = go_back(
                    error,
                    folder,
                    recoveries,
                    end,
                    allowed=cfg.max_rollbacks,
                    may_skip=cfg.on_nonfinite == "rollback",
                    is_first_process=first,
                )


def fit(
    cfg: "DictConfig",
    folder: Path,
    choices: dict[str, str],
    position: "Position",
    recoveries: "Recoveries",
) -> None:
    """Build everything and train from ``position`` on; ``choices`` are the run's options by group.

    Raises:
        RollbackError: training cannot go on from where it came to.
    """
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode
    from lightning import Trainer, seed_everything

    from icot.commands.build import (
        build_callbacks,
        build_data,
        build_loggers,
        build_model,
        build_module,
        build_task,
        build_tokenizer,
        build_user_callbacks,
        facts,
        trainer_arguments,
    )
    from icot.methods.base import method_named
    from icot.runs.directory import describe
    from icot.runs.layout import METRICS, MODEL
    from icot.tracking.wandb_logger import finish
    from icot.training.lightning_internals import callbacks_of, end_also_when_resumed_at_the_end
    from icot.training.metrics_file import MetricsFile
    from icot.training.module import NonFiniteError
    from icot.training.rollback import (
        CollapseError,
        rollback_after_collapse,
        rollback_after_nonfinite,
    )

    seed_everything(cfg.seed, verbose=False)
    task = build_task(cfg)
    tokenizer = build_tokenizer(cfg, task)
    method = method_named(cfg.get("method", {}).get("name", "icot_si"))
    data = build_data(cfg, method, task, tokenizer)
    data.skipped = recoveries.skipped
    data.prepare_data()
    model = build_model(cfg, tokenizer, data.longest)
    module = build_module(cfg, method, model)
    hydra = HydraConfig.get()
    sweep = Path(hydra.sweep.dir).name if hydra.mode == RunMode.MULTIRUN else None
    known = facts(cfg, model, choices, sweep)
    metrics = MetricsFile(folder / METRICS)
    loggers = build_loggers(cfg, folder, metrics, position.step, known)
    trainer = Trainer(
        **trainer_arguments(cfg),
        callbacks=build_callbacks(cfg, method, folder, known, metrics, recoveries, loggers),
        logger=loggers,
        default_root_dir=folder,
    )
    end_also_when_resumed_at_the_end(trainer)
    callbacks_of(trainer).extend(build_user_callbacks(cfg, callbacks_of(trainer)))
    if trainer.is_global_zero and not recoveries.gone_back:
        describe(
            folder,
            cfg,
            {
                **known,
                "choices": choices,
                "precision": trainer.precision,
                "devices": trainer.world_size,
                "effective_batch_size": data.effective_batch_size(trainer),
            },
            position.step,
        )
        tokenizer.save_pretrained(folder / MODEL)
        model.config.save_pretrained(folder / MODEL)
    try:
        trainer.fit(module, datamodule=data, ckpt_path=position.checkpoint)
    except NonFiniteError as error:
        raise rollback_after_nonfinite(error, trainer, data) from error
    except CollapseError as error:
        raise rollback_after_collapse(error, trainer) from error
    finally:
        finish(loggers)


def main() -> None:
    """The command; signals are handled from here on."""
    from icot.system.signals import signals

    signals.listen()
    from icot.cli import run
    from icot.runs.resume import before_hydra

    run("train", train, before_hydra)
