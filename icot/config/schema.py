"""The configuration of a training: keys, types, ranges, defaults, and what each key does.

The YAML files under ``conf/`` fill it; ``icot.config.options`` has the parts that a group's option
chooses, ``icot.config.entry_points`` the configurations of the other commands.
``docs/configuration.md`` is made from these fields.
"""

import re
from typing import Any, Literal

from pydantic import Field, field_validator

from icot.config.options import AnyOptimizer, AnySchedule, AnyTask, MethodConfig
from icot.config.section import Section


class LoraConfig(Section):
    """Low-rank adapters (Hu et al. 2021) as the only trainable weights."""

    r: int | None = Field(None, ge=1)
    """Rank; null trains the weights themselves."""
    alpha: float = Field(32.0, gt=0)
    """Scale: an adapter's output is multiplied by alpha / r."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout before the adapters."""
    target_modules: list[str] | None = None
    """Names of the modules that get adapters; null lets PEFT choose."""


class ModelConfig(Section):
    """The language model and its tokenizer."""

    name_or_path: str
    """Hub name or local folder of the model."""
    architecture: str | None = None
    """Shape of random weights where ``name_or_path`` is no local folder: gpt2, phi3, mistral ..."""
    pretrained: bool = True
    """Load the weights; false draws them at random."""
    tokenizer: str | None = None
    """Hub name or folder; null is the model's own, ``symbol`` is made for the task by icot."""
    config: dict[str, Any] = Field(default_factory=dict)
    """Changes to the model's own configuration, such as dropout; of random weights also the shape.
    """
    attn_implementation: str | None = None
    """eager, sdpa ...; null is the quickest by measurement on a CPU, the library's choice on a GPU.
    """
    compile: Literal["default", "reduce-overhead", "max-autotune"] | None = None
    """Mode of torch.compile, the latter two with CUDA graphs; null does not compile."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Type of the weights."""
    lora: LoraConfig = Field(default_factory=LoraConfig)
    """Adapters."""


class DataConfig(Section):
    """Training batches."""

    batch_size: int = Field(32, ge=1)
    """Training examples per device and micro-batch."""
    max_train_tokens: int | None = Field(None, ge=1)
    """Drop training examples that are longer than this after removal; null keeps all."""
    num_workers: int = Field(0, ge=0)
    """Processes that put batches together; 0 does so in the training process."""
    packing: bool = False
    """Put several examples into a row, which saves padding; the update is the same."""


class ValidationConfig(Section):
    """Scoring the validation split at the ends of stages, of epochs and of training."""

    batch_size: int = Field(500, ge=1)
    """Examples decoded at once."""
    decode: Literal["verify", "always"] = "verify"
    """verify decodes only what one forward pass leaves open; always decodes everything."""
    examples: int | None = Field(None, ge=1)
    """Examples scored at the ends of stages and epochs, null for all; the end always scores all."""
    shown: int = Field(3, ge=0)
    """Right and wrong answers shown at the end of training."""


class TrainerConfig(Section):
    """Lightning's Trainer, and the end of training."""

    accelerator: str = "auto"
    """auto, cpu, gpu ..., as Lightning has it."""
    devices: int | list[int] | str = 1
    """How many devices, which ones, or -1 for all."""
    num_nodes: int = Field(1, ge=1)
    """Machines."""
    strategy: str = "auto"
    """auto, ddp, fsdp (FSDP2), or another of Lightning's strategies."""
    precision: Literal["auto", "32-true", "32", "bf16-mixed", "bf16-true"] = "auto"
    """auto is bf16-mixed where the hardware computes bf16, else 32-true."""
    max_epochs: int = 200
    """End after so many epochs; -1 for no limit."""
    max_steps: int = -1
    """End after so many updates; -1 for no limit."""
    max_time: str | None = None
    """End after so much time, DD:HH:MM:SS."""
    finish_steps: int | None = Field(None, ge=1)
    """End so many updates after the last removal, and count ``optimizer.decay_steps`` from there.
    """
    accumulate_grad_batches: int = Field(1, ge=1)
    """Micro-batches of an update."""
    gradient_clip_val: float | None = 1.0
    """Largest norm of the gradient; null does not clip."""
    log_every_n_steps: int = Field(50, ge=1)
    """Updates between two rows of metrics."""
    deterministic: bool = False
    """Let torch refuse operations whose result depends on chance."""
    requeue: bool = True
    """Under Slurm: put the job back into the queue at SIGUSR1, once the run is saved."""

    @field_validator("devices")
    @classmethod
    def _devices_are_numbers(cls, devices: int | list[int] | str) -> int | list[int] | str:
        if isinstance(devices, str) and not re.fullmatch(r"auto|-?\d+(,\d+)*", devices):
            raise ValueError("must be a number of devices, their numbers, auto, or -1 for all")
        return devices

    @field_validator("max_epochs", "max_steps")
    @classmethod
    def _above_zero_or_unlimited(cls, number: int) -> int:
        if number == 0 or number < -1:
            raise ValueError("must be above 0, or -1 for no limit")
        return number


class CheckpointsConfig(Section):
    """When what resumes a run is saved, beside the ends of stages and of training."""

    every_steps: int | None = Field(None, ge=1)
    """Updates between two checkpoints; null for no such rule."""
    every_minutes: float | None = Field(10.0, gt=0)
    """Minutes between two checkpoints; null for no such rule."""
    keep: int = Field(2, ge=2)
    """How many of the newest checkpoints are kept."""
    every_stage: bool = False
    """Keep each stage's last weights too, for icot.evaluate stage=all."""


class CollapseConfig(Section):
    """What counts as a collapse."""

    share: float = Field(0.5, gt=0, le=1)
    """Accuracy below this share of the run's best has not come back."""
    validations: int = Field(5, ge=1)
    """Validations in a row below that share that make a collapse."""


class LoggerConfig(Section):
    """Loggers beside metrics.csv, which is always written."""

    name: Literal["csv", "wandb", "tensorboard"] = "csv"
    """Which logger is added; csv adds none."""
    project: str = "icot"
    """W&B: the project."""
    group: str | None = None
    """W&B: the run's group; null is the sweep's name."""
    job_type: str = "train"
    """W&B: the run's job type."""
    tags: list[str] = Field(default_factory=list)
    """W&B: tags behind task, model, schedule and experiment."""
    run_name: str | None = None
    """W&B: the run's name; null is the run directory's."""


class PaperConfig(Section):
    """The published number that an experiment is for; nothing is computed from it."""

    place: str | None = None
    """Table or figure, such as Table 2."""
    row: str | None = None
    """The row's heading there."""
    column: str | None = None
    """The column's heading there."""
    accuracy: float | None = None
    """Published exact match."""
    speed: float | None = None
    """Published speed over No CoT."""
    tokens: list[int] = Field(default_factory=list)
    """Published median tokens of question, chain and answer."""


class PathsConfig(Section):
    """Where things are written and read."""

    output_root: str = "outputs"
    """The folder in which run directories and sweeps are made."""
    cache_dir: str = "data/.cache"
    """Where tokenized data are kept."""
    data_dir: str = "data"
    """Where tasks read their files, and icot.prepare writes them."""
    output_dir: str
    """This run's directory; hydra.run.dir= sets it."""


class TrainConfig(Section):
    """``python -m icot.train``."""

    task: AnyTask
    """Where examples come from and how answers are judged."""
    method: MethodConfig = Field(default_factory=MethodConfig)
    """How the model learns to answer without writing its chain."""
    model: ModelConfig
    """The language model."""
    schedule: AnySchedule
    """Which tokens are removed when."""
    optimizer: AnyOptimizer
    """Updates of the weights."""
    data: DataConfig = Field(default_factory=DataConfig)
    """Training batches."""
    validation: ValidationConfig = Field(default_factory=ValidationConfig)
    """Scoring during training."""
    trainer: TrainerConfig = Field(default_factory=TrainerConfig)
    """Devices, precision, and the end of training."""
    checkpoints: CheckpointsConfig = Field(default_factory=CheckpointsConfig)
    """When what resumes a run is saved."""
    logger: LoggerConfig = Field(default_factory=LoggerConfig)
    """Loggers beside metrics.csv."""
    callbacks: dict[str, Any] = Field(default_factory=dict)
    """Further Lightning callbacks by name, each with its _target_ and arguments."""
    paths: PathsConfig
    """Where things are written and read."""
    paper: PaperConfig = Field(default_factory=PaperConfig)
    """The published number that an experiment is for."""
    seed: int = 3456
    """Decides weights, order, offsets and dropout."""
    resume: str | None = None
    """A run directory to go on with; auto goes on where this command has begun, or begins."""
    trust: list[str] = Field(default_factory=list)
    """Packages whose code a run directory may name: tasks, schedules, methods of your own."""
    on_nonfinite: Literal["stop", "rollback"] = "stop"
    """At a gradient that is not finite: end, or return to a checkpoint and leave the batch out."""
    on_collapse: Literal["ignore", "warn", "rollback"] = "ignore"
    """At a collapse: nothing, a warning, or return to the last good stage at half the speed."""
    collapse: CollapseConfig = Field(default_factory=CollapseConfig)
    """What counts as a collapse."""
    max_rollbacks: int = Field(3, ge=0)
    """How often a run returns for each of the two reasons."""
