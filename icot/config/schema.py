"""The configuration of a training: keys, types, ranges, defaults, and what each key does.

The YAML files under ``conf/`` fill it. ``icot.config.options`` has the options of each group,
``icot.config.entry_points`` the configurations of the other commands. ``docs/configuration.md`` is
generated from these fields.
"""

import re
from typing import Any, Literal

from pydantic import Field, field_validator

from icot.config.options import AnyOptimizer, AnySchedule, AnyTask, MethodConfig
from icot.config.section import Section

LARGEST_SEED = 2**32 - 1  # of Lightning and numpy
ATTENTION = (
    "eager",
    "sdpa",
    "flash_attention_2",
    "flash_attention_3",
    "flash_attention_4",
    "flex_attention",
)


class LoraConfig(Section):
    """Low-rank adapters (Hu et al. 2021) as the only trainable weights."""

    r: int | None = Field(None, ge=1)
    """Rank; null trains the weights themselves."""
    alpha: float = Field(32.0, gt=0)
    """Scale: an adapter's output is multiplied by alpha / r."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout before the adapters."""
    target_modules: list[str] | None = None
    """Modules that get adapters; null lets PEFT choose."""


class ModelConfig(Section):
    """The language model and its tokenizer."""

    name_or_path: str
    """Hub name or local folder of the model."""
    architecture: str | None = None
    """Architecture for random weights if ``name_or_path`` is no local folder: gpt2, phi3 ..."""
    pretrained: bool = True
    """Load the weights; false starts from random weights."""
    tokenizer: str | None = None
    """Hub name or folder; null is the model's own, ``symbol`` is one that icot makes for a task."""
    add_bos: bool | None = None
    """Begin every example, and every question that is answered, with the BOS token; null does what
    the tokenizer does by default: Llama and Mistral begin with it, GPT-2 and Phi-3 do not.
    """
    config: dict[str, Any] = Field(default_factory=dict)
    """Changes to the model's configuration, such as dropout; for random weights also its shape."""
    attn_implementation: str | None = None
    """eager, sdpa, flash_attention_2 ..., or OWNER/KERNEL of the hub; null measures the fastest on
    a CPU, and leaves the choice on a GPU to transformers.
    """
    compile: Literal["default", "reduce-overhead", "max-autotune"] | None = None
    """Mode of torch.compile (the last two use CUDA graphs); null does not compile."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Data type of the weights."""
    lora: LoraConfig = Field(default_factory=LoraConfig)
    """Adapters."""

    @field_validator("attn_implementation")
    @classmethod
    def _is_an_implementation(cls, name: str | None) -> str | None:
        if name is not None and "/" not in name and name not in ATTENTION:
            raise ValueError(f"must be one of {', '.join(ATTENTION)}, or OWNER/KERNEL of the hub")
        return name


class DataConfig(Section):
    """Training batches."""

    batch_size: int = Field(32, ge=1)
    """Training examples per device and micro-batch."""
    max_train_tokens: int | None = Field(None, ge=1)
    """Drop training examples longer than this, BOS included, after removal; null keeps all."""
    num_workers: int = Field(0, ge=0)
    """Processes that collate batches; 0 collates in the training process."""
    packing: bool = False
    """Put several examples into one row to save padding; the update is the same. Refused for models
    that do not keep them apart.
    """


class ValidationConfig(Section):
    """Scoring the validation split at the end of each stage, each epoch and training."""

    batch_size: int = Field(500, ge=1)
    """Examples decoded at once."""
    decode: Literal["verify", "always"] = "verify"
    """verify decodes only what one forward pass does not determine; always decodes everything."""
    examples: int | None = Field(None, ge=1)
    """Examples scored after a stage or epoch, null for all; the end of training scores all."""
    every_steps: int | None = Field(None, ge=1)
    """Score after every so many updates in place of the end of each epoch."""
    max_new_tokens: int | None = Field(None, ge=1)
    """Tokens that may be written; null, or fewer, is the longest correct output of the split, which
    is too short where a split has no chains."""
    shown: int = Field(3, ge=0)
    """Correct and wrong answers printed at the end of training."""


class TrainerConfig(Section):
    """Lightning's Trainer, and the end of training."""

    accelerator: str = "auto"
    """auto, cpu, gpu, cuda, mps or tpu; auto is a CUDA GPU if there is one, else the CPU."""
    devices: int | list[int] | str = 1
    """Number of devices, a list of device numbers, or -1 for all."""
    num_nodes: int = Field(1, ge=1)
    """Machines."""
    strategy: str = "auto"
    """How devices share the work: auto, ddp (data parallelism; in a notebook ddp_fork or
    ddp_notebook), or fsdp (FSDP2).
    """
    precision: Literal["auto", "32-true", "32", "bf16-mixed", "bf16-true"] = "auto"
    """auto is bf16-mixed if the hardware supports bf16, else 32-true."""
    max_epochs: int = 200
    """Epochs to train; -1 for no limit."""
    max_steps: int = -1
    """Updates to train; -1 for no limit."""
    max_time: str | None = None
    """Longest training time, DD:HH:MM:SS; null for no limit."""
    finish_steps: int | None = Field(None, ge=1)
    """Updates after the last removal; then training ends, and ``optimizer.decay_steps`` are the
    last of these.
    """
    accumulate_grad_batches: int = Field(1, ge=1)
    """Micro-batches per update."""
    gradient_clip_val: float | None = 1.0
    """Largest gradient norm; null or 0 does not clip."""
    log_every_n_steps: int = Field(50, ge=1)
    """Updates between two rows of metrics."""
    deterministic: bool = False
    """Let torch refuse nondeterministic operations."""
    requeue: bool = True
    """Under Slurm: requeue the job at SIGUSR1, after saving the run."""

    @field_validator("devices")
    @classmethod
    def _devices_are_numbers(cls, devices: int | list[int] | str) -> int | list[int] | str:
        if devices == "auto":
            return devices
        parts = devices.split(",") if isinstance(devices, str) else devices
        listed = parts if isinstance(parts, list) else [parts]
        numbers = [int(part) for part in listed if re.fullmatch(r"-?\d+", str(part))]
        if len(numbers) < len(listed):
            is_good = False
        elif isinstance(devices, list) or len(numbers) > 1:
            is_good = min(numbers, default=-1) >= 0 and len(set(numbers)) == len(numbers)
        else:
            is_good = numbers[0] == -1 or numbers[0] >= 1
        if not is_good:
            raise ValueError(
                "must be a number of devices, a list of different device numbers such as [0,1], "
                "auto, or -1 for all"
            )
        return devices

    @field_validator("max_time")
    @classmethod
    def _is_a_duration(cls, time: str | None) -> str | None:
        if time is not None and not (
            re.fullmatch(r"\d+:\d\d:\d\d:\d\d", time) and re.search("[1-9]", time)
        ):
            raise ValueError("must be above 0, as DD:HH:MM:SS; 00:12:00:00 is twelve hours")
        return time

    @field_validator("max_epochs", "max_steps")
    @classmethod
    def _above_zero_or_unlimited(cls, number: int) -> int:
        if number == 0 or number < -1:
            raise ValueError("must be above 0, or -1 for no limit")
        return number


class CheckpointsConfig(Section):
    """When to save a resumable checkpoint, besides the end of each stage and of training."""

    every_steps: int | None = Field(None, ge=1)
    """Updates between two checkpoints; null for none."""
    every_minutes: float | None = Field(10.0, gt=0, allow_inf_nan=True)
    """Minutes between two checkpoints; null for none."""
    keep: int = Field(2, ge=2)
    """Number of newest checkpoints to keep."""
    every_stage: bool = False
    """Also keep the final weights of each stage, for icot.evaluate stage=all."""


class CollapseConfig(Section):
    """What counts as a collapse."""

    share: float = Field(0.5, gt=0, le=1)
    """Share of the run's best accuracy; below it, accuracy counts as lost."""
    validations: int = Field(5, ge=1)
    """Validations in a row below that share which make a collapse."""


class LoggerConfig(Section):
    """Loggers besides metrics.csv, which is always written."""

    name: Literal["csv", "wandb", "tensorboard"] = "csv"
    """The logger to add; csv adds none."""
    project: str = "icot"
    """W&B: the project."""
    group: str | None = None
    """W&B: the run's group; null is the sweep's name."""
    job_type: str = "train"
    """W&B: the run's job type."""
    tags: list[str] = Field(default_factory=list)
    """W&B: further tags, after task, model, schedule and experiment."""
    run_name: str | None = None
    """W&B: the run's name; null is the run directory's."""


class PaperConfig(Section):
    """The published number that an experiment reproduces; no computation uses it."""

    source: str = "arXiv 2405.14838"
    """The paper."""
    place: str | None = None
    """Table or figure, such as Table 2."""
    row: str | None = None
    """The row's heading there."""
    column: str | None = None
    """The column's heading there."""
    accuracy: float | None = None
    """Published exact match."""
    majority: float | None = None
    """Published exact match of the majority of 30 samples (self-consistency)."""
    accuracies: dict[str, float] = Field(default_factory=dict)
    """Published exact match by pair of digit counts, where one run has several numbers."""
    speed: float | None = None
    """Published speed over No CoT."""
    tokens: list[int] = Field(default_factory=list)
    """Published median tokens of question, chain and answer."""
    method: str = "icot_si"
    """The method of the run that has the number."""
    pipeline: str | None = None
    """The pipeline that has that run as a step; null if it is trained by itself."""
    sweep: str | None = None
    """What the runs of a curve differ in, KEY=VALUE,VALUE; null for a single run."""


class PathsConfig(Section):
    """Folders to read and write."""

    output_root: str = "outputs"
    """The folder for run directories and sweeps."""
    cache_dir: str = "data/.cache"
    """The cache of tokenized data."""
    data_dir: str = "data"
    """The folder that tasks read from and icot.prepare writes to."""
    output_dir: str
    """This run's directory; set by hydra.run.dir=."""


class TrainConfig(Section):
    """``python -m icot.train``."""

    task: AnyTask
    """Where examples come from and how answers are judged."""
    method: MethodConfig = Field(default_factory=MethodConfig)
    """How the model learns to answer without writing the chain."""
    model: ModelConfig
    """The language model."""
    schedule: AnySchedule
    """Which tokens are removed, and when."""
    optimizer: AnyOptimizer
    """The optimizer."""
    data: DataConfig = Field(default_factory=DataConfig)
    """Training batches."""
    validation: ValidationConfig = Field(default_factory=ValidationConfig)
    """Scoring during training."""
    trainer: TrainerConfig = Field(default_factory=TrainerConfig)
    """Devices, precision, and the end of training."""
    checkpoints: CheckpointsConfig = Field(default_factory=CheckpointsConfig)
    """When to save a resumable checkpoint."""
    logger: LoggerConfig = Field(default_factory=LoggerConfig)
    """Loggers besides metrics.csv."""
    callbacks: dict[str, Any] = Field(default_factory=dict)
    """More Lightning callbacks by name, each with its _target_ and arguments."""
    paths: PathsConfig
    """Folders to read and write."""
    paper: PaperConfig = Field(default_factory=PaperConfig)
    """The published number that an experiment reproduces."""
    seed: int = Field(3456, ge=0, le=LARGEST_SEED)
    """Random seed of weights, order, offsets and dropout."""
    resume: str | None = None
    """A run directory to resume; auto resumes the run of this same command, or starts it."""
    trust: list[str] = Field(default_factory=list)
    """Packages whose code a run directory may name: your own tasks, schedules, methods."""
    on_nonfinite: Literal["stop", "rollback"] = "stop"
    """At a non-finite gradient: stop, or return to a checkpoint and skip the batch."""
    on_collapse: Literal["ignore", "warn", "rollback"] = "ignore"
    """At a collapse: nothing, a warning, or return to the last good stage at half the speed."""
    collapse: CollapseConfig = Field(default_factory=CollapseConfig)
    """What counts as a collapse."""
    max_rollbacks: int = Field(3, ge=0)
    """Most rollbacks of a run for each of the two reasons."""
