"""The schemas of teachers, and of the text that they continue."""

from typing import Annotated, Literal

from pydantic import Tag

from icot.config.section import Section


class TemplateConfig(Section):
    """How exemplars and question become a prompt, and how a text is read."""

    question: str = "Q: "
    """What stands before a question."""
    answer: str = "A: "
    """What stands before a rationale, and ends the prompt."""
    trigger: str = " #### "
    """What stands between rationale and answer."""
    stop: str = "\n\n"
    """What ends an exemplar, and a sample."""


class RunTeacherConfig(Section):
    """The model of a run at a stage: the question is its prompt, without exemplars."""

    kind: Literal["run"]
    """Which kind of teacher this is."""
    run_dir: str
    """A run directory, of a training with ``schedule=explicit`` for instance."""
    stage: str = "final"
    """The run's weights to use: final, best, or a stage's number."""


class ModelTeacherConfig(Section):
    """Any causal LM on this machine."""

    kind: Literal["model"]
    """Which kind of teacher this is."""
    name_or_path: str
    """Hub name or local folder of the model."""
    tokenizer: str | None = None
    """Hub name or folder; null is the model's own."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Data type of the weights."""


TEACHERS: dict[str, type[Section]] = {"run": RunTeacherConfig, "model": ModelTeacherConfig}
EachTeacher = Annotated[RunTeacherConfig, Tag("run")] | Annotated[ModelTeacherConfig, Tag("model")]
