"""The configuration's schema: keys, types and defaults, which the YAML files under ``conf/`` fill.

``icot/config_checks.py`` judges what a user makes of it.
"""

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

from icot.config.experiments import CONFIG_MODULE as CONFIG_MODULE
from icot.config.experiments import register_experiments
from icot.config.task_schemas import (
    HubGSM8KConfig,
    MultiplicationConfig,
    TaskConfig,
    TextFilesConfig,
)


@dataclass
class LoraConfig:
    """Low-rank adapters of rank ``r``, null for none; ``target_modules`` null lets PEFT choose."""

    r: int | None = None
    alpha: float = 32.0
    dropout: float = 0.0
    target_modules: list[str] | None = None


@dataclass
class ModelConfig:
    """``tokenizer`` null is the model's own; ``symbol`` is made for the task by the program.

    ``architecture`` names the shape of random weights where ``name_or_path`` is no local folder.
    ``attn_implementation`` null is the quickest by measurement on a CPU, the library's own choice
    on a GPU.
    ``compile`` is a mode of ``torch.compile``, reduce-overhead and max-autotune with CUDA graphs.
    """

    name_or_path: str = MISSING
    architecture: str | None = None
    pretrained: bool = True
    tokenizer: str | None = None
    config: dict[str, Any] = field(default_factory=dict)
    attn_implementation: str | None = None
    compile: str | None = None
    dtype: str = "float32"
    lora: LoraConfig = field(default_factory=LoraConfig)


@dataclass
class ScheduleConfig:
    """Which tokens are removed when; see ``icot.schedule`` and ``icot.removal``."""

    kind: str = "linear"
    tokens_per_epoch: float = 8.0
    rounding: str = "exact"
    warmup_epochs: int = 0
    warmup_removed: int = 0
    remove_all_beyond: int | None = None
    tokens_removed: Any = 0
    threshold: float = 0.9
    patience: int | None = None
    min_batches: int = 10
    decay: float = 0.9
    tokens_per_stage: int = 1
    stops: list[int] = field(default_factory=list)
    smoothing_lambda: float = 4.0
    side: str = "left"
    keep_position_ids: bool = False
    reset_optimizer: bool = True
    reset_warmup_steps: int = 0


@dataclass
class OptimizerConfig:
    """``adamw``, or ``muon`` for hidden matrices with AdamW (``adamw_lr``) for the rest."""

    name: str = "adamw"
    lr: float = 5e-5
    adamw_lr: float = 1e-3
    weight_decay: float = 0.01
    betas: list[float] = field(default_factory=lambda: [0.9, 0.999])
    eps: float = 1e-8
    momentum: float = 0.95
    warmup_steps: int = 0
    decay_steps: int = 0


@dataclass
class DataConfig:
    """``batch_size`` is per device and micro-batch.

    ``packing`` puts several examples into a row of a training batch, which saves the padding where
    their lengths differ; the update is the same.
    """

    batch_size: int = 32
    max_train_tokens: int | None = None
    num_workers: int = 0
    packing: bool = False


@dataclass
class ValidationConfig:
    """``examples``: how many are scored at the ends of stages and epochs; null is all.

    ``decode`` verify decodes only what one forward pass leaves open; always decodes everything.
    """

    batch_size: int = 500
    decode: str = "verify"
    examples: int | None = None
    shown: int = 3


@dataclass
class TrainerConfig:
    """Lightning's Trainer. ``precision`` auto is bf16-mixed where the hardware computes bf16.

    ``finish_steps``: training ends so many updates after the last removal, if not before;
    ``optimizer.decay_steps`` counts back from there.
    ``requeue``: under Slurm, SIGUSR1 puts the job back into the queue once the run is saved.
    """

    accelerator: str = "auto"
    devices: Any = 1
    num_nodes: int = 1
    strategy: str = "auto"
    precision: str = "auto"
    max_epochs: int = 200
    max_steps: int = -1
    max_time: str | None = None
    finish_steps: int | None = None
    accumulate_grad_batches: int = 1
    gradient_clip_val: float | None = 1.0
    log_every_n_steps: int = 50
    deterministic: bool = False
    requeue: bool = True


@dataclass
class CheckpointsConfig:
    """What resumes a run is saved at the ends of stages and of training, and by these rules.

    ``every_steps`` and ``every_minutes``, null for neither; the ``keep`` newest stay.
    ``every_stage``: keep each stage's last weights, too.
    """

    every_steps: int | None = None
    every_minutes: float | None = 10.0
    keep: int = 2
    every_stage: bool = False


@dataclass
class CollapseConfig:
    """What a collapse is: accuracy below ``share`` of its best for ``validations`` in a row."""

    share: float = 0.5
    validations: int = 5


@dataclass
class LoggerConfig:
    """CSV is always written; ``name`` adds ``wandb`` or ``tensorboard``.

    The rest is for W&B: ``group`` null is the sweep's name, ``tags`` come after task, model,
    schedule and experiment, ``run_name`` null is the run directory's.
    """

    name: str = "csv"
    project: str = "icot"
    group: str | None = None
    job_type: str = "train"
    tags: list[str] = field(default_factory=list)
    run_name: str | None = None


@dataclass
class PaperConfig:
    """The number of arXiv 2405.14838 that an experiment is for; nothing is computed from it.

    ``place`` is Table 2, say, ``row`` and ``column`` are its headings there. ``accuracy`` and
    ``speed`` (over No CoT) are the paper's, ``tokens`` its medians of question, chain and answer.
    """

    place: str | None = None
    row: str | None = None
    column: str | None = None
    accuracy: float | None = None
    speed: float | None = None
    tokens: list[int] = field(default_factory=list)


@dataclass
class PathsConfig:
    """``output_dir`` is this run's directory."""

    output_root: str = "outputs"
    cache_dir: str = "data/.cache"
    data_dir: str = "data"
    output_dir: str = MISSING


@dataclass
class TrainConfig:
    """``python -m icot.train``.

    ``resume`` is a run directory to go on with, or auto; see ``icot.resume``. ``on_nonfinite`` stop
    ends the run at a gradient that is not a number, rollback goes back to the newest checkpoint and
    leaves the batch out. ``on_collapse`` ignore, warn, or rollback to the last good stage and go on
    at half the speed. Each goes back ``max_rollbacks`` times at most.
    """

    task: TaskConfig = MISSING
    model: ModelConfig = field(default_factory=ModelConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    data: DataConfig = field(default_factory=DataConfig)
    validation: ValidationConfig = field(default_factory=ValidationConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    checkpoints: CheckpointsConfig = field(default_factory=CheckpointsConfig)
    logger: LoggerConfig = field(default_factory=LoggerConfig)
    callbacks: dict[str, Any] = field(default_factory=dict)
    paths: PathsConfig = field(default_factory=PathsConfig)
    paper: PaperConfig = field(default_factory=PaperConfig)
    seed: int = 3456
    resume: str | None = None
    on_nonfinite: str = "stop"
    on_collapse: str = "ignore"
    collapse: CollapseConfig = field(default_factory=CollapseConfig)
    max_rollbacks: int = 3


@dataclass
class PrepareConfig(TrainConfig):
    """``python -m icot.prepare``; ``split`` all writes the three of them, ``size`` null all lines.

    ``seed`` null is the task's own.
    """

    seed: int | None = None  # type: ignore[assignment]
    split: str = "all"
    size: int | None = None
    out: str | None = None


@dataclass
class SpeedConfig:
    """Questions timed one at a time, 0 for no timing; ``seconds`` bounds each stage's timing."""

    examples: int = 50
    seconds: float = 30.0


@dataclass
class EvaluateConfig:
    """``python -m icot.evaluate``: of ``run_dir``, ``checkpoint`` and ``predictions`` set one.

    ``stage`` is final, best, all or a number; ``tokens_removed`` null is what the weights were
    trained at; ``data_file`` takes the split's place; ``examples`` null scores all. ``precision``
    32-true computes in float32 where the weights are. ``baselines`` are other run directories, for
    the trade-off curve. Files go to ``out``, or beside what is evaluated.
    """

    run_dir: str | None = None
    checkpoint: str | None = None
    predictions: str | None = None
    stage: str = "final"
    tokens_removed: int | None = None
    split: str = "valid"
    data_file: str | None = None
    on_bad_line: str = "raise"
    examples: int | None = None
    decode: str = "verify"
    batch_size: int = 500
    accelerator: str = "auto"
    precision: str = "32-true"
    speed: SpeedConfig = field(default_factory=SpeedConfig)
    baselines: list[str] = field(default_factory=list)
    out: str | None = None
    paths: PathsConfig = field(default_factory=PathsConfig)


@dataclass
class ExportConfig:
    """``python -m icot.export``: the weights of ``run_dir`` at ``stage`` into the folder ``out``.

    ``checkpoint`` names a file of weights instead. The accuracy on the first ``examples`` of
    ``split`` (null is all) goes onto the model card. ``merge_lora`` folds adapters into weights.
    """

    run_dir: str | None = None
    checkpoint: str | None = None
    stage: str = "final"
    tokens_removed: int | None = None
    out: str = MISSING
    merge_lora: bool = False
    split: str = "valid"
    examples: int | None = 1000
    batch_size: int = 500
    accelerator: str = "auto"
    paths: PathsConfig = field(default_factory=PathsConfig)


@dataclass
class BenchmarkConfig(TrainConfig):
    """``python -m icot.benchmark``.

    ``what`` is measured, ``repeats`` times each way:

    - step: updates of the composed training, at the stages with ``removed`` tokens; null is none,
      half and all;
    - memory: its peak in one such update, at the first of them;
    - validation: a ``run_dir``'s weights at ``stage``, on ``examples``;
    - data: tokenizing ``lines`` of the task;
    - start: a process up to its first update;
    - decode: random weights on ``examples`` at batch 1, for ``seconds``, in ``precision``;
    - scaling: our own update against digits, tokens removed, batch size and width.
    """

    what: str = MISSING
    run_dir: str | None = None
    stage: str = "final"
    examples: int = 1000
    repeats: int = 5
    seconds: float = 60.0
    precision: str = "32-true"
    removed: list[int] | None = None
    lines: int = 100_000
    out: str | None = None


@dataclass
class ReportConfig:
    """``python -m icot.report``: of ``runs``, run directories or folders that hold some.

    Files go to ``out``; null is ``report`` in the one folder given, or here if there are several.
    """

    runs: list[str] = MISSING
    out: str | None = None
    paths: PathsConfig = field(default_factory=PathsConfig)


@dataclass
class DashboardConfig:
    """``python -m icot.dashboard``: at W&B, in ``project`` of ``entity``; null is your own.

    ``dry_run`` writes what would be sent to ``out``, and needs no account.
    """

    project: str = MISSING
    entity: str | None = None
    name: str = "Ablations"
    dry_run: bool = False
    out: str = "dashboard.json"
    paths: PathsConfig = field(default_factory=PathsConfig)


def register_schemas() -> None:
    """Let Hydra find the schemas and experiments; an entry point calls this before it composes."""
    register_experiments()
    store = ConfigStore.instance()
    store.store(name="train_schema", group="schema", node=TrainConfig)
    store.store(name="prepare_schema", group="schema", node=PrepareConfig)
    store.store(name="evaluate_schema", group="schema", node=EvaluateConfig)
    store.store(name="export_schema", group="schema", node=ExportConfig)
    store.store(name="report_schema", group="schema", node=ReportConfig)
    store.store(name="dashboard_schema", group="schema", node=DashboardConfig)
    store.store(name="benchmark_schema", group="schema", node=BenchmarkConfig)
    store.store(group="schema/task", name="multiplication", node=MultiplicationConfig)
    store.store(group="schema/task", name="text_files", node=TextFilesConfig)
    store.store(group="schema/task", name="hub_gsm8k", node=HubGSM8KConfig)
