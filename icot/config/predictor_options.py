"""The schemas of predictors: what answers in ``icot.evaluate``, and how."""

from collections.abc import Callable
from typing import Any, Literal

from pydantic import Field

from icot.config.endpoint_options import BudgetConfig, EndpointOptions
from icot.config.section import Section


class GreedyPredictorConfig(Section):
    """The model of a run, decoded greedily."""

    kind: Literal["greedy"] = "greedy"
    """Which predictor this is."""


class VotePredictorConfig(Section):
    """Self-consistency: the answer that most of several samples of a run's model have."""

    kind: Literal["vote"]
    """Which predictor this is."""
    n: int = Field(30, ge=1)
    """Samples of each question."""
    temperature: float = Field(0.7, gt=0)
    """Of the sampling."""
    top_p: float = Field(1.0, gt=0, le=1)
    """Draw only among the most probable tokens that together have this share."""
    seed: int = Field(0, ge=0)
    """Random seed of the samples."""


class EndpointPredictorConfig(EndpointOptions):
    """A model on an OpenAI-compatible server, which gets a prompt."""

    kind: Literal["endpoint"]
    """Which predictor this is."""
    temperature: float | None = Field(0.0, ge=0)
    """0 is greedy; null sends none, for models that take none."""
    top_p: float | None = Field(None, gt=0, le=1)
    """Of nucleus sampling; null sends none."""
    n: int = Field(1, ge=1)
    """Texts of each question; of several, the answer that most of them have counts."""
    seed: int = Field(0, ge=0)
    """Another number asks for new texts; it is not sent."""
    budget: BudgetConfig = Field(default_factory=BudgetConfig)
    """The most to spend."""


class PromptedPredictorConfig(Section):
    """A causal LM in this process, which gets a prompt."""

    kind: Literal["prompted"]
    """Which predictor this is."""
    name_or_path: str
    """Hub name or local folder of the model."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Data type of the weights."""
    chat: bool | None = None
    """Put the prompt into the tokenizer's chat template; null does so if it has one."""
    temperature: float = Field(0.0, ge=0)
    """Of the sampling; 0 is greedy."""
    top_p: float = Field(1.0, gt=0, le=1)
    """Draw only among the most probable tokens that together have this share."""
    n: int = Field(1, ge=1)
    """Texts of each question; of several, the answer that most of them have counts."""
    seed: int = Field(0, ge=0)
    """Random seed of the texts."""


PREDICTORS: dict[str, type[Section]] = {
    "greedy": GreedyPredictorConfig,
    "vote": VotePredictorConfig,
    "endpoint": EndpointPredictorConfig,
    "prompted": PromptedPredictorConfig,
}
ASKED = ("endpoint", "prompted")  # those that get a prompt


def mistakes_of_votes(value: Callable[[str], Any]) -> list[str]:
    """That all texts of a question would be one; ``value`` gives that of a dotted key."""
    if value("predictor.temperature") != 0 or value("predictor.n") == 1:
        return []
    return [
        "predictor.temperature=0 writes the same text every time: set predictor.temperature=0.7 "
        "for a vote, or leave out predictor.n"
    ]
