"""The configurations of the commands other than ``icot.train``, and where Hydra finds them all."""

from typing import Annotated, Literal

from hydra.core.config_store import ConfigStore
from pydantic import Field

from icot.config.experiments import register_experiments
from icot.config.options import OPTIMIZERS, OTHER, OTHERS, SCHEDULES, TASKS
from icot.config.schema import PathsConfig, TrainConfig
from icot.config.section import Section, defaults_of

Split = Literal["train", "valid", "test"]
Stage = str  # final, best, all, or a number
Accelerator = Literal["auto", "cpu", "gpu"]
Precision = Literal["32-true", "bf16-mixed"]


class PrepareConfig(TrainConfig):
    """``python -m icot.prepare``: writes a task's text files; takes what training takes."""

    seed: int | None = None  # type: ignore[assignment]
    """Draws the examples; null is the task's own seed."""
    split: Literal["all", "train", "valid", "test"] = "all"
    """Which split is written."""
    size: int | None = Field(None, ge=1)
    """Lines of each split; null writes all."""
    out: str | None = None
    """The folder; null is paths.data_dir/TASK."""


class SpeedConfig(Section):
    """Timing one question at a time."""

    examples: int = Field(50, ge=0)
    """Questions that are timed; 0 for no timing."""
    seconds: float = Field(30.0, ge=0)
    """Bound on the timing of each stage, in seconds."""


class EvaluateConfig(Section):
    """``python -m icot.evaluate``: set one of ``run_dir``, ``checkpoint`` and ``predictions``."""

    run_dir: str | None = None
    """A run directory."""
    checkpoint: str | None = None
    """One file of weights."""
    predictions: str | None = None
    """What another program wrote: JSON lines with target and prediction."""
    stage: Stage = "final"
    """Which of the run's weights: final, best, all, or a stage's number."""
    tokens_removed: int | None = Field(None, ge=0)
    """Tokens removed from each chain; null is what the weights were trained at."""
    split: Split = "valid"
    """Which split of the run's task is scored."""
    data_file: str | None = None
    """A file of lines in the task's format, in place of the split."""
    on_bad_line: Literal["raise", "skip"] = "raise"
    """What a line of data_file that is not in the format does."""
    examples: int | None = Field(None, ge=1)
    """Score only the first so many examples; null scores all."""
    decode: Literal["verify", "always"] = "verify"
    """verify decodes only what one forward pass leaves open; always decodes everything."""
    batch_size: int = Field(500, ge=1)
    """Examples decoded at once."""
    accelerator: Accelerator = "auto"
    """The device: auto takes a GPU where there is one."""
    precision: Precision = "32-true"
    """32-true computes in float32 where the weights are; bf16-mixed under autocast."""
    speed: SpeedConfig = Field(default_factory=SpeedConfig)
    """Timing one question at a time."""
    baselines: list[str] = Field(default_factory=list)
    """Other run directories to draw beside the stages; needs stage=all."""
    out: str | None = None
    """The folder for the files; null is the run directory."""
    trust: list[str] = Field(default_factory=list)
    """Packages whose code the run directory may name."""
    paths: PathsConfig
    """Where things are written and read."""


class ExportConfig(Section):
    """``python -m icot.export``: the weights of a run as a folder that plain transformers loads."""

    run_dir: str | None = None
    """A run directory."""
    checkpoint: str | None = None
    """One file of weights."""
    stage: Stage = "final"
    """Which of the run's weights: final, best, or a stage's number."""
    tokens_removed: int | None = Field(None, ge=0)
    """Tokens removed from each chain; null is what the weights were trained at."""
    out: str
    """The folder to write; it must not exist, or be empty."""
    merge_lora: bool = False
    """Fold adapters into the weights."""
    split: Split = "valid"
    """The split whose accuracy goes onto the model card."""
    examples: int | None = Field(1000, ge=1)
    """Examples of the split that are scored for the card; null scores all."""
    batch_size: int = Field(500, ge=1)
    """Examples decoded at once."""
    accelerator: Accelerator = "auto"
    """The device: auto takes a GPU where there is one."""
    trust: list[str] = Field(default_factory=list)
    """Packages whose code the run directory may name."""
    paths: PathsConfig
    """Where things are written and read."""


class BenchmarkConfig(TrainConfig):
    """``python -m icot.benchmark``: measures icot against a plain loop, by turns in one process."""

    what: Literal["step", "memory", "validation", "data", "start", "decode", "scaling"]
    """What is measured; docs/performance.md describes each."""
    run_dir: str | None = None
    """what=validation: the run whose weights are used."""
    stage: Stage = "final"
    """what=validation: which of its weights."""
    examples: int = Field(1000, ge=1)
    """what=validation, decode: examples that are scored or timed."""
    repeats: int = Field(5, ge=1)
    """How often each side is timed."""
    seconds: float = Field(60.0, ge=0)
    """what=decode: bound on the timing, in seconds."""
    precision: Precision = "32-true"
    """what=validation, decode: as in icot.evaluate."""
    removed: list[Annotated[int, Field(ge=0)]] | None = None
    """what=step, memory: tokens removed at each stage measured; null is none, half and all."""
    lines: int = Field(100_000, ge=1)
    """what=data: lines of the task that are tokenized."""
    out: str | None = None
    """The folder for benchmark-WHAT.json; null is here."""


class ReportConfig(Section):
    """``python -m icot.report DIR...``: what runs show, as a page, as Markdown and as pictures."""

    runs: list[str]
    """Run directories, or folders that are searched for them."""
    out: str | None = None
    """The folder for the report; null is report in the one folder given, or here."""
    paths: PathsConfig
    """Where things are written and read."""


class DashboardConfig(Section):
    """``python -m icot.dashboard``: the W&B workspace for ablations, and a report."""

    project: str
    """The W&B project."""
    entity: str | None = None
    """The W&B user or team; null is your own."""
    name: str = "Ablations"
    """What the workspace and the report are called."""
    dry_run: bool = False
    """Write what would be sent to ``out``; this needs no account."""
    out: str = "dashboard.json"
    """The file that dry_run writes."""
    paths: PathsConfig
    """Where things are written and read."""


SCHEMAS: dict[str, type[Section]] = {
    "train": TrainConfig,
    "prepare": PrepareConfig,
    "evaluate": EvaluateConfig,
    "export": ExportConfig,
    "benchmark": BenchmarkConfig,
    "report": ReportConfig,
    "dashboard": DashboardConfig,
}


def register_schemas() -> None:
    """Let Hydra find the keys and defaults of every command, and of each group's options."""
    store = ConfigStore.instance()
    for name, schema in SCHEMAS.items():
        node = defaults_of(schema, without=("task", "schedule", "optimizer"))
        store.store(name=f"{name}_schema", group="schema", node=node)
    for group, options in (("task", TASKS), ("schedule", SCHEDULES), ("optimizer", OPTIMIZERS)):
        for name, section in options.items():
            short = name if "." not in name else name.split(".")[-2]
            store.store(group=f"schema/{group}", name=short, node=defaults_of(section))
    for group, section in OTHERS.items():
        store.store(group=f"schema/{group}", name=OTHER, node=defaults_of(section))
    register_experiments()
