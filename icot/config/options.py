"""The schemas of schedules, optimizers and methods, and the choice of one: each has its own keys.

A key that the chosen option does not have is an error (``schedule=no_cot
schedule.tokens_per_epoch=4``). ``_target_`` names a task, schedule or method of a user's package;
its class checks the other keys when it is made (``docs/extending.md``).
"""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Discriminator, Field, PositiveInt, Tag, ValidationInfo, field_validator

from icot.config.predictor_options import (
    PREDICTORS,
    EndpointPredictorConfig,
    GreedyPredictorConfig,
    PromptedPredictorConfig,
    VotePredictorConfig,
)
from icot.config.prompt_options import PROMPTS, ExamplesPromptConfig, NativePromptConfig
from icot.config.section import TARGET, OfAnotherPackage, Section
from icot.config.task_options import TASKS, EachTask, OtherTaskConfig
from icot.config.teacher_options import TEACHERS, EachTeacher

KeepIds = bool | Literal["from_separator"]  # icot.removal, which imports torch, says what it is
OTHER = "other"  # the tag of an option of a user's package


# -------------------------------------------------------------------------------------- schedules


class ScheduleOptions(Section):
    """The keys of all schedules."""

    side: Literal["left", "right"] = "left"
    """Remove from the left (start) or the right (end) of the chain; right is an ablation."""
    keep_position_ids: KeepIds = False
    """Tokens after the removed ones keep their position ids (Appendix C); with ``from_separator``
    the separator before the chain jumps with them, so that its id tells how many are missing
    (of the example's own chain)."""
    chain_loss: float = Field(0.0, ge=0)
    """Weight of a further loss beside the usual one in training: a head predicts the whole chain
    from the question's hidden states. 0 is none; the trained model does not contain the head."""
    chain_loss_layers: list[PositiveInt] | None = Field(None, min_length=1)
    """After how many layers that head reads the hidden states, one number or several (``[2,3]``);
    null is half of the layers."""
    filler: Literal["none", "one_for_one", "fixed"] = "none"
    """What a prompt has behind its separator: nothing, a filler token for each removed token, or
    ``filler_count`` filler tokens at every stage."""
    filler_count: PositiveInt | None = None
    """Filler tokens of each example with ``filler=fixed``."""
    supervise_filler: bool = False
    """Supervise the first filler of each example; no other one ever is."""

    @property
    def jumping_ids(self) -> KeepIds:
        """``keep_position_ids``; False with a filler for each removed token, which has its id."""
        return False if self.filler == "one_for_one" else self.keep_position_ids


class RemovalOptions(ScheduleOptions):
    """How a schedule removes tokens (arXiv 2405.14838, section 3)."""

    smoothing_lambda: float = Field(4.0, gt=0, allow_inf_nan=True)
    """λ of removal smoothing: a row loses o more tokens with P(o) ∝ exp(-λ o); inf for none."""
    dial_share: float = Field(0.0, ge=0, le=1)
    """Share of rows that lose any number of tokens below the stage's, for one model that answers
    with any part of its chain (``schedule=dial``)."""
    reset_optimizer: bool = True
    """Discard the optimizer's moments whenever more tokens are removed."""
    reset_warmup_steps: int = Field(0, ge=0)
    """Updates over which the learning rate rises again after a reset."""
    separators: ClassVar[int] = 2


class LinearScheduleConfig(RemovalOptions):
    """The paper's schedule: tokens are removed at a constant rate."""

    kind: Literal["linear"]
    """Which schedule this is."""
    tokens_per_epoch: float = Field(8.0, gt=0)
    """Δ, tokens removed per epoch; may be fractional. ``schedule=no_cot`` removes all at once."""
    removal_batches: int | None = Field(None, ge=1)
    """The batches in which the longest chain is removed, in place of ``tokens_per_epoch``."""
    rounding: Literal["exact", "official"] = "exact"
    """exact: floor(Δ n / T) after n of T batches; official: one every round(T / Δ) batches."""
    warmup_epochs: int = Field(0, ge=0)
    """Epochs with ``warmup_removed`` tokens removed, before the schedule begins."""
    warmup_removed: int = Field(0, ge=0)
    """Tokens removed during the warm-up; the schedule continues from there."""
    remove_all_beyond: int | None = Field(None, ge=1)
    """Once this many tokens are removed, remove everything; null for never."""


class AdaptiveScheduleConfig(RemovalOptions):
    """The next tokens are removed when the training accuracy at this stage is high enough."""

    kind: Literal["adaptive"]
    """Which schedule this is."""
    threshold: float = Field(0.9, gt=0, le=1)
    """The training accuracy at which a stage ends."""
    count_first: bool = False
    """Whether it counts the first supervised token, which a model that is not told how much is
    removed has to guess (``keep_position_ids=from_separator`` tells it). Where each token of a
    chain is a whole step, as in a running state, removal makes no other token harder."""
    finish_threshold: float | None = Field(None, gt=0, le=1)
    """The training accuracy of the last stage from where ``trainer.finish_steps`` count; null
    counts from the last removal. Patience does not end the last stage."""
    patience: int | None = Field(None, ge=1)
    """Batches after which a stage ends anyway; null waits without limit."""
    min_batches: int = Field(10, ge=1)
    """Fewest batches of a stage."""
    decay: float = Field(0.9, ge=0, lt=1)
    """Weight of the past in the moving average of the accuracy."""
    tokens_per_stage: Annotated[int, Field(ge=1)] | Literal["half"] = 1
    """Tokens removed at once; half removes half of what is left, rounded up."""
    stops: list[int] = Field(default_factory=list)
    """The removed tokens of each stage, in place of ``tokens_per_stage``; after the last, all."""
    remove_all_beyond: int | None = Field(None, ge=1)
    """Once this many tokens are removed, remove everything; null for never."""

    @field_validator("stops")
    @classmethod
    def _stops_rise(cls, stops: list[int]) -> list[int]:
        if stops != sorted(set(stops)) or any(stop < 1 for stop in stops):
            raise ValueError("must increase, from at least 1")
        return stops


class FixedScheduleConfig(ScheduleOptions):
    """The same removal throughout: explicit CoT, No CoT, or anything in between."""

    kind: Literal["fixed"]
    """Which schedule this is."""
    tokens_removed: Annotated[int, Field(ge=0)] | Literal["all"] = 0
    """Tokens removed from every chain: 0 is explicit CoT, all is No CoT."""
    separators: Literal[1, 2] = 2
    """Separators between question and answer once everything is removed; 1 removes the second with
    the chain, as the published code of ICoT-KD does."""

    @field_validator("separators")
    @classmethod
    def _one_separator_without_chain(cls, separators: int, info: ValidationInfo) -> int:
        if separators == 1 and info.data.get("tokens_removed") != "all":
            raise ValueError("needs tokens_removed=all: a chain ends at the second separator")
        return separators

    # The stage never changes, so there is no smoothing and no reset.
    smoothing_lambda: ClassVar[float] = float("inf")
    dial_share: ClassVar[float] = 0.0
    reset_optimizer: ClassVar[bool] = False
    reset_warmup_steps: ClassVar[int] = 0


class OtherScheduleConfig(RemovalOptions, OfAnotherPackage):
    """A schedule of a user's package; see ``icot.schedule.Schedule``."""

    kind: ClassVar[str] = OTHER


# ------------------------------------------------------------------------------------- optimizers


class OptimizerOptions(Section):
    """The keys of all optimizers."""

    lr: float = Field(5e-5, gt=0)
    """Learning rate."""
    weight_decay: float = Field(0.01, ge=0)
    """Decoupled weight decay."""
    betas: list[Annotated[float, Field(ge=0, lt=1)]] = Field(
        default_factory=lambda: [0.9, 0.999], min_length=2, max_length=2
    )
    """AdamW's decay rates of the two moments."""
    eps: float = Field(1e-8, gt=0)
    """AdamW's term against division by zero."""
    warmup_steps: int = Field(0, ge=0)
    """Updates over which the learning rate rises at the start."""
    decay_steps: int = Field(0, ge=0)
    """Last updates, over which the learning rate falls to 0; needs a known end."""


class AdamWConfig(OptimizerOptions):
    """AdamW for all weights, as in the papers."""

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
    """The method, named by its record; the record checks the method's own keys."""

    target: str = Field("icot.methods.icot_si.record.METHOD", alias="_target_")
    """Dotted name of the method's record, an ``icot.methods.base.Method``."""


# ------------------------------------------------------------------------------------ the choices


def _of(group: str) -> Any:
    """Choose a group's section by the value of its key; any other is of a user's package."""

    def tag(value: Any) -> str | None:
        if isinstance(value, Section):
            value = value.as_dict()
        if not isinstance(value, dict):
            return None
        chosen = value.get(CHOSEN_BY[group])
        if isinstance(chosen, str) and chosen in SECTIONS[group]:
            return chosen
        return OTHER if TARGET in value else str(chosen)

    return Discriminator(tag)


SCHEDULES: dict[str, type[Section]] = {
    "linear": LinearScheduleConfig,
    "adaptive": AdaptiveScheduleConfig,
    "fixed": FixedScheduleConfig,
}
OPTIMIZERS: dict[str, type[Section]] = {"adamw": AdamWConfig, "muon": MuonConfig}
SECTIONS = {
    "task": TASKS,
    "schedule": SCHEDULES,
    "optimizer": OPTIMIZERS,
    "predictor": PREDICTORS,
    "teacher": TEACHERS,
    "prompt": PROMPTS,
}
OTHERS: dict[str, type[Section]] = {"task": OtherTaskConfig, "schedule": OtherScheduleConfig}
# The key that chooses.
CHOSEN_BY = {
    "task": TARGET,
    "schedule": "kind",
    "optimizer": "name",
    "predictor": "kind",
    "teacher": "kind",
    "prompt": "form",
}

AnyTask = Annotated[EachTask | Annotated[OtherTaskConfig, Tag(OTHER)], _of("task")]
AnySchedule = Annotated[
    Annotated[LinearScheduleConfig, Tag("linear")]
    | Annotated[AdaptiveScheduleConfig, Tag("adaptive")]
    | Annotated[FixedScheduleConfig, Tag("fixed")]
    | Annotated[OtherScheduleConfig, Tag(OTHER)],
    _of("schedule"),
]
AnyOptimizer = Annotated[
    Annotated[AdamWConfig, Tag("adamw")] | Annotated[MuonConfig, Tag("muon")],
    _of("optimizer"),
]
AnyPredictor = Annotated[
    Annotated[GreedyPredictorConfig, Tag("greedy")]
    | Annotated[VotePredictorConfig, Tag("vote")]
    | Annotated[EndpointPredictorConfig, Tag("endpoint")]
    | Annotated[PromptedPredictorConfig, Tag("prompted")],
    _of("predictor"),
]
AnyPrompt = Annotated[
    Annotated[ExamplesPromptConfig, Tag("examples")] | Annotated[NativePromptConfig, Tag("native")],
    _of("prompt"),
]
AnyTeacher = Annotated[EachTeacher, _of("teacher")]
