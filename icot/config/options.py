"""The schemas of tasks, schedules, optimizers and methods: each option has its own keys.

A key that the chosen option does not have is a mistake (``schedule=no_cot
schedule.tokens_per_epoch=4``). A task, schedule or method of a user's own package is named by
``_target_``; the class itself judges the further keys when it is made (``docs/extending.md``).
"""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Discriminator, Field, Tag, field_validator

from icot.config.section import Section

OTHER = "other"  # the tag of an option of a user's own package
TARGET = "_target_"


class OfAnotherPackage(Section):
    """An option that a user's own package brings."""

    model_config = ConfigDict(extra="allow")

    target: str = Field(alias="_target_")
    """Dotted name of the class in the user's package."""

    def arguments(self) -> dict[str, Any]:
        """The keys that are not icot's own: what the class is made with."""
        return dict(self.model_extra or {})


# ------------------------------------------------------------------------------------------ tasks


class MultiplicationConfig(Section):
    """``icot.tasks.multiplication.Multiplication``: two numbers of ``digits`` digits."""

    target: Literal["icot.tasks.multiplication.Multiplication"] = Field(alias="_target_")
    """The task's class."""
    digits: int = Field(ge=2)
    """N, digits of each operand."""
    chain: Literal["long", "tree"] = "long"
    """The chain of thought: long multiplication, or the binary tree of sums of Appendix C."""
    train_size: int | None = Field(None, ge=1)
    """Training examples; null is the published 808,000, or all there are."""
    valid_size: int | None = Field(None, ge=1)
    """Validation examples; null is the published 1,000, or a tenth of all there are."""
    test_size: int | None = Field(None, ge=0)
    """Test examples; null is the published 1,000, or a tenth of all there are."""
    seed: int = 3456
    """Draws the operands."""


class TextFilesConfig(Section):
    """``icot.tasks.text_files.TextFiles``: your own lines, ``question||cot #### answer``."""

    target: Literal["icot.tasks.text_files.TextFiles"] = Field(alias="_target_")
    """The task's class."""
    name: str = "text"
    """What reports and messages call the task."""
    data_dir: str
    """The folder that holds the files."""
    train_file: str | None = "train.txt"
    """The training split's file in that folder."""
    valid_file: str | None = "valid.txt"
    """The validation split's file in that folder."""
    test_file: str | None = "test.txt"
    """The test split's file in that folder; null for none."""
    train_size: int | None = Field(None, ge=1)
    """Read only the first so many training lines; null reads all."""
    valid_size: int | None = Field(None, ge=1)
    """Read only the first so many validation lines; null reads all."""
    test_size: int | None = Field(None, ge=0)
    """Read only the first so many test lines; null reads all."""
    on_bad_line: Literal["raise", "skip"] = "raise"
    """What a line that is not in the format does: end the program, or be left out and counted."""


class HubGSM8KConfig(Section):
    """``icot.tasks.gsm8k.HubGSM8K``: GSM8K through the ``datasets`` library."""

    target: Literal["icot.tasks.gsm8k.HubGSM8K"] = Field(alias="_target_")
    """The task's class."""
    dataset: str = "whynlp/gsm8k-aug"
    """Hub name of the data set, or a folder that ``datasets`` can load."""
    subset: str | None = None
    """The data set's configuration, ``main`` for ``openai/gsm8k``."""
    revision: str | None = None
    """A commit or tag that pins what is downloaded."""
    held_out: int = Field(500, ge=1)
    """Where the data set has no validation split: how many last training rows become it."""
    train_size: int | None = Field(None, ge=1)
    """Take only the first so many training rows; null takes all."""
    valid_size: int | None = Field(None, ge=1)
    """Take only the first so many validation rows; null takes all."""
    test_size: int | None = Field(None, ge=0)
    """Take only the first so many test rows; null takes all."""


class OtherTaskConfig(OfAnotherPackage):
    """A task of a user's own package, a subclass of ``icot.Task``."""


# -------------------------------------------------------------------------------------- schedules


class RemovalOptions(Section):
    """How a schedule's removals are made (arXiv 2405.14838, section 3)."""

    smoothing_lambda: float = Field(4.0, gt=0)
    """λ of removal smoothing: a row loses o further tokens with P(o) ∝ exp(-λ o); inf for none."""
    side: Literal["left", "right"] = "left"
    """The end of the chain that is removed: its start, or (an ablation) its end."""
    keep_position_ids: bool = False
    """What follows the removed tokens keeps its position ids (Appendix C)."""
    reset_optimizer: bool = True
    """Discard the optimizer's moments whenever more is removed."""
    reset_warmup_steps: int = Field(0, ge=0)
    """Updates over which the learning rate rises again after a reset."""


class LinearScheduleConfig(RemovalOptions):
    """The paper's schedule: tokens go at a steady rate."""

    kind: Literal["linear"]
    """Which schedule this is."""
    tokens_per_epoch: float = Field(8.0, gt=0, allow_inf_nan=False)
    """Δ, tokens removed per epoch; may be fractional. ``schedule=no_cot`` removes all at once."""
    rounding: Literal["exact", "official"] = "exact"
    """exact: floor(Δ n / T) after n of T batches; official: one every round(T / Δ) batches."""
    warmup_epochs: int = Field(0, ge=0)
    """Epochs at ``warmup_removed`` tokens before the schedule begins."""
    warmup_removed: int = Field(0, ge=0)
    """Tokens removed during the warm-up, from which the schedule goes on."""
    remove_all_beyond: int | None = Field(None, ge=1)
    """Remove everything once so many tokens are removed; null for never."""


class AdaptiveScheduleConfig(RemovalOptions):
    """The next tokens go when the training accuracy at this stage is good enough."""

    kind: Literal["adaptive"]
    """Which schedule this is."""
    threshold: float = Field(0.9, gt=0, le=1)
    """The training accuracy at which a stage ends, first supervised token left out."""
    patience: int | None = Field(None, ge=1)
    """Batches after which a stage ends anyway; null waits for ever."""
    min_batches: int = Field(10, ge=1)
    """Batches that a stage lasts at least."""
    decay: float = Field(0.9, ge=0, lt=1)
    """Weight of the past in the moving average of the accuracy."""
    tokens_per_stage: int = Field(1, ge=1)
    """Tokens removed at once."""
    stops: list[int] = Field(default_factory=list)
    """Numbers of removed tokens to stop at, in place of ``tokens_per_stage``; then all goes."""
    remove_all_beyond: int | None = Field(None, ge=1)
    """Remove everything once so many tokens are removed; null for never."""

    @field_validator("stops")
    @classmethod
    def _stops_rise(cls, stops: list[int]) -> list[int]:
        if stops != sorted(set(stops)) or any(stop < 1 for stop in stops):
            raise ValueError("must rise from at least 1")
        return stops


class FixedScheduleConfig(Section):
    """The same removal throughout: explicit CoT, No CoT, or anything between."""

    kind: Literal["fixed"]
    """Which schedule this is."""
    tokens_removed: Annotated[int, Field(ge=0)] | Literal["all"] = 0
    """Tokens removed from every chain: 0 is explicit CoT, all is No CoT."""
    side: Literal["left", "right"] = "left"
    """The end of the chain that is removed."""
    keep_position_ids: bool = False
    """What follows the removed tokens keeps its position ids (Appendix C)."""

    # Nothing changes, so nothing is smoothed and nothing is reset.
    smoothing_lambda: ClassVar[float] = float("inf")
    reset_optimizer: ClassVar[bool] = False
    reset_warmup_steps: ClassVar[int] = 0


class OtherScheduleConfig(RemovalOptions, OfAnotherPackage):
    """A schedule of a user's own package; see ``icot.schedule.Schedule``."""

    kind: ClassVar[str] = OTHER


# ------------------------------------------------------------------------------------- optimizers


class OptimizerOptions(Section):
    """What all optimizers have."""

    lr: float = Field(5e-5, gt=0)
    """Learning rate."""
    weight_decay: float = Field(0.01, ge=0)
    """Decoupled weight decay."""
    betas: list[float] = Field(default_factory=lambda: [0.9, 0.999], min_length=2, max_length=2)
    """AdamW's decay rates of the two moments."""
    eps: float = Field(1e-8, gt=0)
    """AdamW's term against division by zero."""
    warmup_steps: int = Field(0, ge=0)
    """Updates over which the learning rate rises at the start."""
    decay_steps: int = Field(0, ge=0)
    """Updates at the end over which the learning rate falls to 0; needs an end to count from."""


class AdamWConfig(OptimizerOptions):
    """AdamW for all weights, the papers' choice."""

    name: Literal["adamw"]
    """Which optimizer this is."""


class MuonConfig(OptimizerOptions):
    """Muon (``lr``) for hidden matrices, AdamW (``adamw_lr``) for all other weights."""

    name: Literal["muon"]
    """Which optimizer this is."""
    adamw_lr: float = Field(1e-3, gt=0)
    """Learning rate of AdamW, for embeddings, norms and biases."""
    momentum: float = Field(0.95, ge=0, lt=1)
    """Muon's momentum."""


# ---------------------------------------------------------------------------------------- methods


class MethodConfig(OfAnotherPackage):
    """The method, by its record; the record judges the method's own keys."""

    target: str = Field("icot.methods.icot_si.record.METHOD", alias="_target_")
    """Dotted name of the method's record, an ``icot.methods.base.Method``."""


# ------------------------------------------------------------------------------------ the choices


def _by(key: str) -> Any:
    """Choose a section by the value of its ``key``, or as one of another package."""

    def tag(value: Any) -> str | None:
        if isinstance(value, Section):
            value = value.as_dict()
        if not isinstance(value, dict):
            return None
        chosen = value.get(key)
        if isinstance(chosen, str) and chosen in SECTIONS[key]:
            return chosen
        return OTHER if TARGET in value else str(chosen)

    return Discriminator(tag)


TASKS: dict[str, type[Section]] = {
    "icot.tasks.multiplication.Multiplication": MultiplicationConfig,
    "icot.tasks.text_files.TextFiles": TextFilesConfig,
    "icot.tasks.gsm8k.HubGSM8K": HubGSM8KConfig,
}
SCHEDULES: dict[str, type[Section]] = {
    "linear": LinearScheduleConfig,
    "adaptive": AdaptiveScheduleConfig,
    "fixed": FixedScheduleConfig,
}
OPTIMIZERS: dict[str, type[Section]] = {"adamw": AdamWConfig, "muon": MuonConfig}
SECTIONS = {TARGET: TASKS, "kind": SCHEDULES, "name": OPTIMIZERS}
OTHERS: dict[str, type[Section]] = {"task": OtherTaskConfig, "schedule": OtherScheduleConfig}
CHOSEN_BY = {"task": TARGET, "schedule": "kind", "optimizer": "name"}  # the key that chooses

AnyTask = Annotated[
    Annotated[MultiplicationConfig, Tag("icot.tasks.multiplication.Multiplication")]
    | Annotated[TextFilesConfig, Tag("icot.tasks.text_files.TextFiles")]
    | Annotated[HubGSM8KConfig, Tag("icot.tasks.gsm8k.HubGSM8K")]
    | Annotated[OtherTaskConfig, Tag(OTHER)],
    _by(TARGET),
]
AnySchedule = Annotated[
    Annotated[LinearScheduleConfig, Tag("linear")]
    | Annotated[AdaptiveScheduleConfig, Tag("adaptive")]
    | Annotated[FixedScheduleConfig, Tag("fixed")]
    | Annotated[OtherScheduleConfig, Tag(OTHER)],
    _by("kind"),
]
AnyOptimizer = Annotated[
    Annotated[AdamWConfig, Tag("adamw")] | Annotated[MuonConfig, Tag("muon")],
    _by("name"),
]
