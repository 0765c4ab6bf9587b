"""The schemas of prompts: how a question is put to a model that icot has not trained."""

from typing import Literal

from pydantic import Field, field_validator

from icot.config.section import Section


class PromptOptions(Section):
    """The keys of all prompts."""

    comparison: Literal["numeric", "strict"] = "numeric"
    """numeric compares numbers as numbers and other answers as the task does; strict compares
    texts, as published. Both are recorded."""
    stop: list[str] = Field(default_factory=list)
    """Texts at which an answer ends."""
    max_truncated: float = Field(0.05, ge=0, le=1)
    """The share of answers cut by ``max_new_tokens`` above which the command ends."""


class ExamplesPromptConfig(PromptOptions):
    """Instruction, solved examples, question (few-shot prompting)."""

    form: Literal["examples"]
    """Which prompt this is."""
    instruction: str
    """The first line."""
    examples_heading: str
    """The line above the examples."""
    question_heading: str
    """The line above the question."""
    question_form: str = "Q:{question}"
    """How the question is put, behind the examples; as published."""
    chain: bool
    """Whether the examples have their chain."""
    shots: int = Field(5, ge=0)
    """Examples, without replacement."""
    seed: int = Field(42, ge=0)
    """Random seed of the draw, which also depends on the question's number."""
    exemplars: str | None = None
    """A file of lines in the task's format whose first ``shots`` are the examples; null draws them
    from the first 20,000 of the task's train split."""

    @field_validator("question_form")
    @classmethod
    def _has_the_question(cls, form: str) -> str:
        if "{question}" not in form:
            raise ValueError("must have {question} where the question is to stand")
        return form


class NativePromptConfig(PromptOptions):
    """The text of a model that icot has trained and exported; the question and its separators."""

    form: Literal["native"]
    """Which prompt this is."""
    separator: str = "<eos>"
    """The text of the separator, the tokenizer's end-of-sequence token."""
    separators: Literal[1, 2] = 2
    """Behind the question: 2 for a fully internalized model, 1 for one that writes its chain."""


PROMPTS: dict[str, type[Section]] = {
    "examples": ExamplesPromptConfig,
    "native": NativePromptConfig,
}
