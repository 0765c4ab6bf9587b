"""``icot.train``: take a model from explicit to implicit chain of thought.

    python -m icot.train task=mult9 model=gpt2
    python -m icot.train -m schedule.tokens_per_epoch=4,8 schedule.smoothing_lambda=2,4,inf
    python -m icot.train resume=outputs/RUN

Builds the components in order and runs them.
"""

from pathlib import Path

from lightning import Trainer, seed_everything
from lightning.fabric.utilities.rank_zero import rank_zero_only

from icot.commands.build import (
    build_data,
    build_model,
    build_module,
    build_task,
    build_tokenizer,
    build_view,
    check_lengths,
    warn_of_told_lengths,
)
from icot.commands.build_method import settle_method
from icot.commands.build_trainer import (
    add_user_callbacks,
    build_callbacks,
    build_loggers,
    build_user_callbacks,
    check_devices,
    facts,
    trainer_arguments,
)
from icot.commands.quiet import quiet_libraries
from icot.config.command_line import CommandLine
from icot.config.schema import TrainConfig
from icot.data.leading_tokens import leading_tokens
from icot.errors import RunError, first_line
from icot.methods.base import ModelParts
from icot.models.introspection import config_of
from icot.runs.directory import describe, kept_choices
from icot.runs.layout import CONFIG, METRICS, MODEL
from icot.runs.lock import lock_run
from icot.runs.places import run_exists_error
from icot.runs.position import End, Position, find_position, is_complete
from icot.runs.recovery import Recoveries, RollbackError, go_back
from icot.system.hardware import is_out_of_memory, keep_freed_memory
from icot.system.machine import machine
from icot.tracking.wandb_logger import finish
from icot.training.lightning_internals import callbacks_of, end_also_when_resumed_at_the_end
from icot.training.metrics_file import MetricsFile
from icot.training.module import NonFiniteError
from icot.training.rollback import (
    CollapseError,
    rollback_after_collapse,
    rollback_after_nonfinite,
)


def run(cfg: TrainConfig, command: CommandLine) -> None:
    """Start or resume a run, and write its run directory.

    Raises:
        UserError: a mistake that the user can correct.
    """
    quiet_libraries()
    folder = Path(cfg.paths.output_dir)
    is_first_process = getattr(rank_zero_only, "rank", 0) == 0
    end = End(cfg.trainer.max_steps, cfg.trainer.max_epochs, cfg.trainer.finish_steps)
    with lock_run(folder, is_first_process):
        if cfg.resume is None and is_first_process and (folder / CONFIG).is_file():
            raise run_exists_error(folder)
        choices = kept_choices(folder) or dict(command.choices)
        position = find_position(folder, end, is_first_process)
        if is_complete(folder, end, position):
            print(f"{folder} is complete; to train longer, raise trainer.max_steps or max_epochs.")
            return
        keep_freed_memory()
        recoveries = Recoveries(folder)
        while True:
            try:
                return fit(cfg, command, choices, position, recoveries)
            except RollbackError as error:
                position = go_back(
                    error,
                    folder,
                    recoveries,
                    end,
                    allowed=cfg.max_rollbacks,
                    may_skip=cfg.on_nonfinite == "rollback",
                    is_first_process=is_first_process,
                )


def fit(
    cfg: TrainConfig,
    command: CommandLine,
    choices: dict[str, str],
    position: Position,
    recoveries: Recoveries,
) -> None:
    """Build the components and train from ``position`` on.

    Args:
        cfg: the configuration.
        command: the command line.
        choices: the run's options by group.
        position: where the run resumes.
        recoveries: the rollbacks of the run so far.

    Raises:
        RollbackError: training must return to a checkpoint.
    """
    folder = Path(cfg.paths.output_dir)
    seed_everything(cfg.seed, verbose=False)
    check_devices(cfg)
    own_callbacks = build_user_callbacks(cfg.callbacks)
    # The configuration that is kept says what was done.
    cfg, method, options = settle_method(cfg, command.overrides)
    task = build_task(cfg.task)
    tokenizer = build_tokenizer(cfg.model, task, cfg.schedule)
    add_bos = bool(leading_tokens(tokenizer))
    cfg = cfg.model_copy(update={"model": cfg.model.model_copy(update={"add_bos": add_bos})})
    view = build_view(cfg, method, options, tokenizer)
    data = build_data(cfg, task, tokenizer, view)
    data.skipped = recoveries.skipped
    data.prepare_data()
    check_lengths(cfg, data)
    warn_of_told_lengths(data)
    model = method.build_model(
        ModelParts(build_model(cfg, tokenizer, data.longest), data.eos_token_id), options
    )
    module = build_module(cfg, method, options, model, data)
    known = facts(cfg, model, choices, command.sweep)
    metrics = MetricsFile(folder / METRICS)
    loggers = build_loggers(cfg, metrics, position.step, known)
    trainer = Trainer(
        **trainer_arguments(cfg),
        callbacks=build_callbacks(cfg, method, options, known, metrics, recoveries, loggers),
        logger=loggers,
        default_root_dir=folder,
    )
    end_also_when_resumed_at_the_end(trainer)
    add_user_callbacks(own_callbacks, callbacks_of(trainer))
    if trainer.is_global_zero and not recoveries.gone_back:
        of_this_start = {
            **known,
            "choices": choices,
            "precision": trainer.precision,
            "devices": trainer.world_size,
            "effective_batch_size": data.effective_batch_size(trainer),
        }
        describe(folder, cfg, command.text, of_this_start, machine(), position.step)
        tokenizer.save_pretrained(folder / MODEL)
        config_of(model).save_pretrained(folder / MODEL)
    try:
        trainer.fit(module, datamodule=data, ckpt_path=position.checkpoint)
    except NonFiniteError as error:
        raise rollback_after_nonfinite(error, trainer, data) from error
    except CollapseError as error:
        raise rollback_after_collapse(error, trainer) from error
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise RunError(
            f"{folder}: there is not enough memory ({first_line(error)}). A batch has "
            f"{cfg.data.batch_size} examples, and the longest has {data.longest} tokens: in a new "
            "run, set a smaller data.batch_size with more trainer.accumulate_grad_batches, or "
            f"data.max_train_tokens. resume={folder} resumes from the newest checkpoint."
        ) from None
    finally:
        finish(loggers)
