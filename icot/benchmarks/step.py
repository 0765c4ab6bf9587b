"""An update of a method against one of a plain loop, alternating on the same weights and examples.

Ours runs in Lightning's loop with its data module and callbacks; after each of its updates the
plain loop makes one from the same rows. Each stage starts with the same weights.
"""

import copy
from collections.abc import Callable
from functools import partial
from statistics import median
from time import perf_counter
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer, seed_everything
from torch import nn
from torch.optim import Optimizer

from icot.benchmarks import plain_loop
from icot.benchmarks.ceiling import Work, synchronize, time_products
from icot.benchmarks.plain_distillation import PlainDistillation, work_of
from icot.benchmarks.plain_loop import PlainLoss
from icot.commands.build import (
    build_data,
    build_model,
    build_module,
    build_optimizer,
    build_task,
    build_tokenizer,
    build_view,
)
from icot.commands.build_method import model_maker, settle_method
from icot.commands.build_trainer import trainer_arguments
from icot.config.command_line import CommandLine
from icot.config.entry_points import BenchmarkConfig
from icot.methods.base import Method, NoOptions, Options
from icot.methods.icot_kd.training import EmulatorModule, StudentLM
from icot.methods.icot_si.record import METHOD as ICOT_SI
from icot.removal import CoTBatch
from icot.schedule import FixedSchedule
from icot.training.callbacks.clock import Clock
from icot.training.callbacks.stages import Stages
from icot.training.datamodule import CoTDataModule
from icot.training.hooks import datamodule_of
from icot.training.module import LOSS, TrainingModule

WARM_UP = 1  # updates of each side that are not timed


def measure(cfg: BenchmarkConfig, command: CommandLine) -> dict[str, Any]:
    """Seconds of an update, ours and the plain one, at some stages.

    The utilisation of each is relative to the time of the model's matrix products alone.
    """
    _, method, options = settle_method(cfg)
    # The plain loop has no such loss.
    schedule = cfg.schedule.model_copy(update={"chain_loss": 0.0})
    cfg = cfg.model_copy(update={"schedule": schedule})
    data = prepare_data(cfg, method, options)
    tokenizer = data.tokenizer
    stages = {}
    everything = [] if method.is_removal else [data.longest_cot]  # others have this stage alone
    for removed in everything or stages_of(cfg, data.longest_cot):
        seed_everything(cfg.seed, verbose=False)
        module = make_module(cfg, data, method, options)
        timer = PlainLoopTimer(
            plain_loss(cfg, module, data, removed), build_optimizer(cfg.optimizer)
        )
        train(cfg, module, data, removed, cfg.repeats + WARM_UP, timer)
        rows, columns = timer.shape
        products = time_products(timer.work, timer.dtype, module.device)
        ours, theirs = (median(times) for times in (timer.seconds, timer.plain))
        stages[str(removed)] = {
            "tokens_removed": removed,
            "tokens": timer.tokens,
            "padding": 1 - timer.tokens / (rows * columns),
            "seconds": {"ours": timer.seconds, "plain": timer.plain},
            "median_seconds": {"ours": ours, "plain": theirs},
            "ratio": theirs / ours,
            "largest_loss_difference": timer.difference,
            "flops": products.flops,
            "ceiling_flops_per_second": products.flops / products.seconds,
            "utilisation": {"ours": products.seconds / ours, "plain": products.seconds / theirs},
        }
    return {
        "task": data.task.name,
        "model": cfg.model.name_or_path,
        "method": method.name,
        "parameters": sum(p.numel() for p in module.model.parameters()),
        "vocabulary": len(tokenizer),
        "batch_size": cfg.data.batch_size,
        "precision": str(trainer_arguments(cfg)["precision"] or "bf16-true"),
        "optimizer": cfg.optimizer.name,
        "stages": stages,
        "ratios": {f"{removed} removed": s["ratio"] for removed, s in stages.items()},
    }


def prepare_data(
    cfg: BenchmarkConfig, method: Method = ICOT_SI, options: Options | None = None
) -> CoTDataModule:
    """The data module; its view draws no offsets, as in the plain loop."""
    task = build_task(cfg.task)
    tokenizer = build_tokenizer(cfg.model, task, cfg.schedule)
    view = build_view(cfg, method, options or NoOptions(), tokenizer)
    data = build_data(cfg, task, tokenizer, view)
    data.prepare_data()
    return data


def stages_of(cfg: BenchmarkConfig, longest_cot: int) -> list[int]:
    """Tokens removed at the measured stages; by default none, half and all."""
    if cfg.removed is None:
        return [0, -(-longest_cot // 2), longest_cot]
    return [min(int(n), longest_cot) for n in cfg.removed]


def make_module(
    cfg: BenchmarkConfig,
    data: CoTDataModule,
    method: Method = ICOT_SI,
    options: Options | None = None,
) -> TrainingModule:
    """The method's module, with new weights."""
    options = options or NoOptions()
    model = build_model(cfg, data.tokenizer, data.longest)
    model = model_maker(method, options)(model, eos_token_id=data.eos_token_id)
    return build_module(cfg, method, options, model, data)


def train(
    cfg: BenchmarkConfig,
    module: TrainingModule,
    data: CoTDataModule,
    removed: int,
    updates: int,
    *extra: Callback,
) -> None:
    """Train for some updates at one stage, as ``icot.train`` does."""
    arguments = trainer_arguments(cfg) | {
        "max_epochs": -1,
        "max_steps": updates,
        "max_time": None,
        "enable_progress_bar": False,
        "limit_val_batches": 0,
        "logger": False,
    }
    trainer = Trainer(
        **arguments, callbacks=[Clock(cfg.seed), Stages(FixedSchedule(removed)), *extra]
    )
    trainer.fit(module, datamodule=data)


class UpdateTimer(Callback):
    """Times each update, from the end of the one before.

    Attributes:
        seconds: of each update after the warm-up.
        shape: rows and columns of the last batch.
    """

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.shape = (0, 0)
        self._begun = 0.0
        self._count = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._begun = perf_counter()

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: CoTBatch,
        batch_idx: int,
    ) -> None:
        """Record the time, and restart the clock."""
        synchronize(pl_module.device)
        seconds = perf_counter() - self._begun
        self._count += 1
        if self._count > WARM_UP:
            self.seconds.append(seconds)
        self.shape = (int(batch.input_ids.shape[0]), int(batch.input_ids.shape[1]))
        self._begun = perf_counter()


def plain_loss(
    cfg: BenchmarkConfig, module: TrainingModule, data: CoTDataModule, removed: int
) -> PlainLoss:
    """The plain form of a method's training, with the same weights."""
    if isinstance(module, StudentLM | EmulatorModule):
        make_model = partial(build_model, cfg, data.tokenizer, data.longest)
        return PlainDistillation.of(module, make_model, data.eos_token_id)
    return plain_loop.PlainCausalLM(copy.deepcopy(module.model), removed, data.eos_token_id)


class PlainLoopTimer(UpdateTimer):
    """Times updates, and makes and times one of the plain loop after each.

    Args:
        model: the plain form, with the same weights: from whole examples to their loss.
        make_optimizer: makes its optimizer.

    Attributes:
        plain: seconds of each update of the plain loop.
        difference: the largest difference between the two losses, relative to the plain one.
        tokens: tokens of the last batch, without padding.
        work: the products of our last update.
        dtype: of our computation.
    """

    def __init__(self, model: PlainLoss, make_optimizer: Callable[[nn.Module], Optimizer]) -> None:
        super().__init__()
        self.model, self.make_optimizer = model, make_optimizer
        self.plain: list[float] = []
        self.difference = 0.0
        self.tokens = 0
        self.work: list[Work] = []
        self.dtype = torch.float32
        self._optimizer: Any = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Move the plain model to our device."""
        if "bf16" in str(trainer.precision):
            self.dtype = torch.bfloat16
        self.model.to(pl_module.device).train(pl_module.training)
        self._optimizer = self.make_optimizer(self.model)
        super().on_train_start(trainer, pl_module)

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: CoTBatch,
        batch_idx: int,
    ) -> None:
        """Make an update of the plain loop after ours."""
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        data = datamodule_of(trainer)
        assert batch.examples is not None
        rows = [whole_example(data, n) for n in batch.examples.tolist()]
        begun = perf_counter()
        loss = self.model.loss(rows)
        plain_loop.step(self.model, self._optimizer, loss)
        plain_loss = float(loss.detach())
        synchronize(pl_module.device)
        plain = perf_counter() - begun
        our_loss = float(trainer.callback_metrics[LOSS])
        self.difference = max(self.difference, abs(our_loss - plain_loss) / abs(plain_loss))
        if self._count > WARM_UP:
            self.plain.append(plain)
        self.tokens = int(batch.lengths.sum())
        assert isinstance(pl_module, TrainingModule)
        self.work = work_of(pl_module, batch)
        self._begun = perf_counter()


def whole_example(data: CoTDataModule, number: int) -> tuple[list[int], list[int]]:
    """Token ids and labels of a training example, as the plain loop holds them."""
    store = data.split("train")
    ids = store.tokens[store.offsets[number] : store.offsets[number + 1]].tolist()
    start = int(store.cot_start[number])
    return ids, [plain_loop.IGNORED] * start + ids[start:]
