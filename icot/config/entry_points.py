"""The configurations of the other commands, and the registration of all with Hydra."""

from typing import Annotated, Any, Literal

from hydra.core.config_store import ConfigStore
from pydantic import Field

from icot.config.endpoint_options import BudgetConfig
from icot.config.experiments import register_experiments
from icot.config.options import (
    OTHER,
    OTHERS,
    SECTIONS,
    AnyPredictor,
    AnyPrompt,
    AnyTask,
    AnyTeacher,
)
from icot.config.predictor_options import GreedyPredictorConfig
from icot.config.schema import LARGEST_SEED, PaperConfig, PathsConfig, TrainConfig
from icot.config.section import Section, defaults_of
from icot.config.teacher_options import TemplateConfig

Split = Literal["train", "valid", "test"]
Stage = str  # final, best, all, or a number
Accelerator = Literal["auto", "cpu", "gpu"]
Precision = Literal["32-true", "bf16-mixed"]
Budget = Annotated[int, Field(ge=0)]


class PrepareConfig(TrainConfig):
    """``python -m icot.prepare``: writes a task's text files; also takes the keys of icot.train."""

    seed: int | None = Field(None, ge=0)  # type: ignore[assignment]
    """Random seed of the examples; null is the task's own seed."""
    split: Literal["all", "train", "valid", "test"] = "all"
    """The split to write."""
    size: int | None = Field(None, ge=1)
    """Lines per split; null writes all."""
    out: str | None = None
    """The output folder; null is paths.data_dir/TASK."""


class SampleConfig(Section):
    """``python -m icot.sample``: many rationales of a teacher for each question (SCoTD)."""

    task: AnyTask | None = None
    """Where the questions come from; null is the teacher's own task, for ``teacher=run``."""
    teacher: AnyTeacher
    """The model that writes."""
    template: TemplateConfig
    """How a prompt is written, except for ``teacher=run``."""
    out: str
    """The folder of the corpus, which is continued if it has been begun."""
    rescore: str | None = None
    """Write no texts: give those of this corpus, a folder or a file of such lines, the teacher's
    log-probabilities, which ``task.filter=likelihood`` needs."""
    split: Split = "train"
    """The split whose questions are asked."""
    examples: int | None = Field(None, ge=1)
    """Questions, from the start of the split; null asks all."""
    samples: int = Field(30, ge=1)
    """N, the samples of each question."""
    temperature: float | None = Field(1.0, ge=0)
    """Of the sampling; 0 takes the most probable tokens, with ``samples=1``; null sends none, for
    servers that take none."""
    top_p: float | None = Field(1.0, gt=0, le=1)
    """Draw only among the most probable tokens that together have this share; null sends none."""
    max_new_tokens: int | None = Field(None, ge=1)
    """Tokens of a sample; null is 256, or with ``teacher=run`` the longest correct output."""
    max_truncated: float = Field(0.05, ge=0, le=1)
    """Stop with an error if this share of the samples is cut by ``max_new_tokens``."""
    shots: int = Field(0, ge=0)
    """Exemplars in each prompt, drawn from the train split."""
    exemplars: str | None = None
    """A file of exemplars in place of drawn ones, with lines as ``task=text`` has them."""
    shuffle_exemplars: bool = False
    """Put the exemplars in another order for each question."""
    batch_size: int = Field(64, ge=1)
    """Samples written at once, by a teacher on this machine."""
    budget: BudgetConfig = Field(default_factory=BudgetConfig)
    """The most to spend on a server."""
    seed: int = Field(3456, ge=0, le=LARGEST_SEED)
    """Random seed of samples and exemplars."""
    accelerator: Accelerator = "auto"
    """The device; auto uses a GPU if there is one."""
    dry_run: bool = False
    """Show a prompt and how much there is to write; send and write nothing."""
    trust: list[str] = Field(default_factory=list)
    """Packages whose code the teacher's run directory may name."""
    paths: PathsConfig
    """Folders to read and write."""


class SpeedConfig(Section):
    """Timing one question at a time."""

    examples: int = Field(50, ge=0)
    """Questions to time; 0 for no timing."""
    seconds: float = Field(30.0, ge=0, allow_inf_nan=True)
    """Most seconds to time each stage."""


class EvaluateConfig(Section):
    """``python -m icot.evaluate``: set one of ``run_dir``, ``checkpoint`` and ``predictions``, or a
    predictor that gets a prompt and a ``task``."""

    run_dir: str | None = None
    """A run directory."""
    checkpoint: str | None = None
    """One file of weights."""
    predictions: str | None = None
    """A file of another program's output: JSON lines with target and prediction."""
    predictor: AnyPredictor = Field(default_factory=GreedyPredictorConfig)
    """What answers: a run's model, or one that gets a prompt."""
    task: AnyTask | None = None
    """The questions, for a predictor that gets a prompt; a run brings its own."""
    prompt: AnyPrompt | None = None
    """How a question becomes a prompt."""
    dry_run: bool = False
    """Print a prompt and what the requests can use at most; send and write nothing."""
    stage: Stage = "final"
    """The run's weights to use: final, best, all, or a stage's number."""
    tokens_removed: int | None = Field(None, ge=0)
    """Tokens removed from each chain; null is the stage that the weights were trained at."""
    budget: Budget | list[Budget] | None = None
    """Tokens that are left of the longest chain, in place of ``tokens_removed``; several make the
    curve of one set of weights."""
    split: Split = "valid"
    """The split of the run's task to score."""
    data_file: str | None = None
    """A file of lines in the task's format, in place of the split."""
    on_bad_line: Literal["raise", "skip"] = "raise"
    """At a line of data_file that is not in the format: stop with an error, or skip it."""
    also: list[str | dict[str, Any]] = Field(default_factory=list)
    """Further examples to score at each stage: a task's name, a file of lines, the run's own task
    with other values, ``{length: 20}``, or another with them, ``{task: mult4, easy_held_out: 1}``.
    """
    examples: int | None = Field(None, ge=1)
    """Examples to score, from the start; null scores all."""
    max_new_tokens: int | None = Field(None, ge=1)
    """Tokens that may be written; null, or fewer, is the longest correct output of the examples;
    where a model gets a prompt, null is 600."""
    decode: Literal["verify", "always"] = "verify"
    """verify decodes only what one forward pass does not determine; always decodes everything."""
    batch_size: int = Field(500, ge=1)
    """Examples decoded at once."""
    accelerator: Accelerator = "auto"
    """The device; auto uses a GPU if there is one."""
    precision: Precision = "32-true"
    """32-true computes in the type of the weights; bf16-mixed uses autocast."""
    speed: SpeedConfig = Field(default_factory=SpeedConfig)
    """Timing one question at a time."""
    baselines: list[str] = Field(default_factory=list)
    """Other run directories to plot with the stages; needs stage=all."""
    out: str | None = None
    """The output folder, without an evaluation in it; null is a new one in RUN/evaluations, or in
    OUTPUT_ROOT/prompted/evaluations."""
    trust: list[str] = Field(default_factory=list)
    """Packages whose code the run directory may name."""
    paper: PaperConfig = Field(default_factory=PaperConfig)
    """The published number that an experiment reproduces."""
    paths: PathsConfig
    """Folders to read and write."""


class ProbeConfig(Section):
    """``python -m icot.probe``: linear probes of a run's hidden states (docs/probe.md)."""

    run_dir: str
    """A run directory."""
    stage: Stage = "final"
    """The run's weights to probe: final, best, all, or a stage's number."""
    baselines: list[str] = Field(default_factory=list)
    """Other run directories of the same questions, whose final weights are probed beside them."""
    layers: list[Annotated[int, Field(ge=0)]] | None = None
    """Layers to probe: 0 is the embeddings, the number of blocks what comes out of the last one;
    null is all.
    """
    positions: list[str] | None = None
    """Positions to probe: question, sep, filler, chain, end, answer, or single ones, x-1, f2, z3,
    y2; null is all.
    """
    tokens: list[Annotated[int, Field(ge=1)]] | None = None
    """Tokens of the chain to read, from 1; null is all."""
    quantities: bool = True
    """Also read the quantities that the task names, such as carries."""
    examples: int = Field(2000, ge=40)
    """Held-out questions to use, at most; from the validation and test splits."""
    test_share: float = Field(0.25, gt=0, lt=1)
    """Share of them on which the probes are tested; they learn from the others."""
    ridge: float = Field(0.01, gt=0)
    """Regularization of the probes: added to the variance of each scaled feature."""
    most_classes: int = Field(50, ge=2)
    """Classes of a probe; rarer values count as wrong."""
    causal: int = Field(500, ge=0)
    """Pairs of questions whose states are exchanged for the causal check, at most; 0 for none."""
    attention: int | None = Field(1, ge=1)
    """Question whose attention is drawn, counted from 1 among the tested ones; null for none."""
    batch_size: int = Field(100, ge=1)
    """Questions in a forward pass."""
    seed: int = Field(3456, ge=0, le=LARGEST_SEED)
    """Random seed of the order of questions and of the control task."""
    accelerator: Accelerator = "auto"
    """The device; auto uses a GPU if there is one."""
    precision: Precision = "32-true"
    """32-true computes in the type of the weights; bf16-mixed uses autocast."""
    out: str | None = None
    """The output folder; null is RUN/probes/STAGE. Unfinished probes in it are continued."""
    trust: list[str] = Field(default_factory=list)
    """Packages whose code the run directory may name."""
    paths: PathsConfig
    """Folders to read and write."""


class ExportConfig(Section):
    """``python -m icot.export``: writes a run's weights to a folder that transformers loads."""

    run_dir: str | None = None
    """A run directory."""
    checkpoint: str | None = None
    """One file of weights."""
    stage: Stage = "final"
    """The run's weights to use: final, best, or a stage's number."""
    tokens_removed: int | None = Field(None, ge=0)
    """Tokens removed from each chain; null is the stage that the weights were trained at."""
    out: str
    """The folder to write; it must not exist, or be empty."""
    merge_lora: bool = False
    """Merge adapters into the weights."""
    split: Split = "valid"
    """The split to score for the model card."""
    examples: int | None = Field(1000, ge=1)
    """Examples to score for the model card; null scores all."""
    batch_size: int = Field(500, ge=1)
    """Examples decoded at once."""
    accelerator: Accelerator = "auto"
    """The device; auto uses a GPU if there is one."""
    trust: list[str] = Field(default_factory=list)
    """Packages whose code the run directory may name."""
    paths: PathsConfig
    """Folders to read and write."""


class BenchmarkConfig(TrainConfig):
    """``python -m icot.benchmark``: times icot and a plain loop alternately, in one process."""

    what: Literal[
        "step", "memory", "validation", "data", "start", "decode", "sample", "endpoint", "scaling"
    ]
    """What to measure; see docs/performance.md."""
    run_dir: str | None = None
    """what=validation: the run whose weights to use."""
    stage: Stage = "final"
    """what=validation: the run's weights to use."""
    examples: int = Field(1000, ge=1)
    """what=validation, decode, sample: examples to score or time; what=endpoint: requests."""
    repeats: int = Field(5, ge=1)
    """Repetitions of each timing."""
    seconds: float = Field(60.0, ge=0, allow_inf_nan=True)
    """what=decode: most seconds of timing."""
    precision: Precision = "32-true"
    """what=validation, decode, sample: as in icot.evaluate."""
    removed: list[Annotated[int, Field(ge=0)]] | None = None
    """what=step, memory: tokens removed at the stages to measure; null is none, half and all."""
    lines: int = Field(100_000, ge=1)
    """what=data: lines to tokenize."""
    out: str | None = None
    """The folder for benchmark-WHAT.json; null is the current one."""


class ReportConfig(Section):
    """``python -m icot.report DIR...``: the results of runs as HTML, Markdown and figures."""

    runs: list[str] = Field(min_length=1)
    """Run directories, or folders to search for them."""
    out: str | None = None
    """The output folder; null is report/ in the given folder, or in the current one for several."""
    paths: PathsConfig
    """Folders to read and write."""


class StepConfig(Section):
    """A step of a pipeline: a command, and its overrides as one types them.

    ``<teacher>`` in an override is the directory of the step ``teacher``, which comes first.
    """

    command: str
    """The command, such as train."""
    fixed: list[str] = Field(default_factory=list)
    """Overrides that make the step what it is. An override for all steps does not change the groups
    of these; one for this step does."""
    settings: list[str] = Field(default_factory=list)
    """Overrides that set how the step is done, its length for instance; the command line may change
    them."""


class PipelineConfig(Section):
    """``python -m icot.pipeline +pipeline=NAME``: the steps of a method, each an ordinary run."""

    steps: dict[str, StepConfig] = Field(default_factory=dict)
    """The steps by name, in order; ``+pipeline=NAME`` brings them."""
    out: str | None = None
    """The pipeline's directory, with one of each step in it; null is one named after the settings,
    in paths.output_root/pipelines."""
    parallel: int | None = Field(None, ge=1)
    """Steps to run side by side where they do not need each other; null is one for each GPU, or one
    if there is none or a step uses several."""
    dry_run: bool = False
    """Print the commands, or the jobs with hydra/launcher=slurm, and do nothing."""
    paths: PathsConfig
    """Folders to read and write."""


class DemoConfig(Section):
    """``python -m icot.demo``: a local page, to ask a run's stages and see what each writes."""

    run_dir: str | Annotated[list[str], Field(min_length=1)]
    """A run directory, a folder of icot.export, or a list of several."""
    split: Literal["valid", "test"] = "valid"
    """The held-out split that random questions are drawn from."""
    host: str = "127.0.0.1"
    """The address to listen at; 0.0.0.0 shows the page to other machines, too."""
    port: int = Field(7860, ge=1, le=65535)
    """The port to listen at."""
    keep_loaded: int = Field(8, ge=1)
    """Most weights in memory at once; writers that do not fit answer after the others."""
    tally: int = Field(20, ge=1, le=1000)
    """Random questions that one click of the tally asks."""
    waiting: int = Field(64, ge=1)
    """Most questions that wait while another one is answered."""
    accelerator: Accelerator = "auto"
    """The device; auto uses a GPU if there is one."""
    trust: list[str] = Field(default_factory=list)
    """Packages whose code the run directory may name."""
    paths: PathsConfig
    """Folders to read and write."""

    @property
    def run_dirs(self) -> list[str]:
        """The folders as a list."""
        return [self.run_dir] if isinstance(self.run_dir, str) else self.run_dir


class DashboardConfig(Section):
    """``python -m icot.dashboard``: the W&B workspace for ablations, and a report."""

    project: str
    """The W&B project."""
    entity: str | None = None
    """The W&B user or team; null is your default."""
    name: str = "Ablations"
    """The name of the workspace and the report."""
    dry_run: bool = False
    """Write the workspace to ``out`` instead of sending it; needs no account."""
    out: str = "dashboard.json"
    """The file that dry_run writes."""
    paths: PathsConfig
    """Folders to read and write."""


SCHEMAS: dict[str, type[Section]] = {
    "train": TrainConfig,
    "prepare": PrepareConfig,
    "sample": SampleConfig,
    "evaluate": EvaluateConfig,
    "probe": ProbeConfig,
    "export": ExportConfig,
    "benchmark": BenchmarkConfig,
    "report": ReportConfig,
    "pipeline": PipelineConfig,
    "dashboard": DashboardConfig,
    "demo": DemoConfig,
}


def register_schemas() -> None:
    """Register the keys and defaults of every command and of each group's options with Hydra."""
    store = ConfigStore.instance()
    for name, schema in SCHEMAS.items():
        node = defaults_of(schema, without=tuple(SECTIONS))
        store.store(name=f"{name}_schema", group="schema", node=node)
    for group, options in SECTIONS.items():
        for name, section in options.items():
            short = name if "." not in name else name.split(".")[-2]
            store.store(group=f"schema/{group}", name=short, node=defaults_of(section))
    for group, section in OTHERS.items():
        store.store(group=f"schema/{group}", name=OTHER, node=defaults_of(section))
    register_experiments()
