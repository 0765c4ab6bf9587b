"""The schemas of predictors: how the model of a run answers in ``icot.evaluate``."""

from typing import Literal

from pydantic import Field

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


PREDICTORS: dict[str, type[Section]] = {
    "greedy": GreedyPredictorConfig,
    "vote": VotePredictorConfig,
}
