"""The schemas of teachers, of the text that they continue, and which keys conflict."""

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import Tag

from icot.config.endpoint_options import EndpointOptions, mistakes_of_budget
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


class EndpointTeacherConfig(EndpointOptions):
    """A model on an OpenAI-compatible server."""

    kind: Literal["endpoint"]
    """Which kind of teacher this is."""
    logprobs: bool = True
    """Ask for log-probabilities, which ``task.filter=likelihood`` needs; some servers refuse."""


TEACHERS: dict[str, type[Section]] = {
    "run": RunTeacherConfig,
    "model": ModelTeacherConfig,
    "endpoint": EndpointTeacherConfig,
}
EachTeacher = (
    Annotated[RunTeacherConfig, Tag("run")]
    | Annotated[ModelTeacherConfig, Tag("model")]
    | Annotated[EndpointTeacherConfig, Tag("endpoint")]
)


def mistakes_in_sampling(value: Callable[[str], Any]) -> list[str]:
    """The keys of ``icot.sample`` that conflict; ``value`` gives that of a dotted key."""
    kind = value("teacher.kind")
    if kind is None:
        return []
    mistakes = []
    if value("temperature") == 0 and value("samples") != 1:
        mistakes.append("temperature=0 writes the same text every time: set samples=1")
    if kind == "endpoint" and value("rescore") is not None:
        return [
            "rescore= needs the probabilities of given texts, which servers do not tell: set "
            "teacher=model or teacher=run"
        ]
    if kind == "endpoint":
        return mistakes + mistakes_of_budget(value, "budget", "teacher")
    mistakes += [
        f"{key} has no effect with teacher={kind}, which costs nothing: leave it out"
        for key in ("budget.tokens", "budget.cost")
        if value(key) is not None
    ]
    mistakes += [
        f"{key}=null leaves the value to a server: set a number with teacher={kind}"
        for key in ("temperature", "top_p")
        if value(key) is None
    ]
    return mistakes
