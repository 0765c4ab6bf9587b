"""The model card of an exported folder: what was done, how good it is, and code that runs."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from icot.config.options import AnySchedule, FixedScheduleConfig
from icot.config.schema import ModelConfig
from icot.tasks.answers import ANSWER_MARK

HEAD = """\
---
library_name: {library}
pipeline_tag: text-generation
tags:
- {tag}
- {task}
---
# {task}, {removed}

{training} {output}

| | |
| --- | --- |
| task | {task} |
{rows}

"""

PROMPT = """\
{checked}

## Prompt

A blank, the question, a blank, {separators}; nothing else. Decoding is greedy.{told}

```python
{code}
```
"""

PIPELINE = """\
from transformers import pipeline

answer = pipeline("text-generation", model={folder})
print(answer({prompt}, return_full_text=False)[0]["generated_text"])
# {printed}"""

GENERATE = """\
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained({folder})
model = AutoModelForCausalLM.from_pretrained({folder}{loading})
inputs = tokenizer({prompt}, return_tensors="pt", return_token_type_ids=False)
settings = {{"do_sample": False, "max_new_tokens": {longest}, "eos_token_id": {end}}}
written = model.generate(**inputs, **settings)[0, inputs["input_ids"].shape[1] :]
"""

ANSWER = """\
print(tokenizer.decode(written, skip_special_tokens=True))
# {printed}"""

CHAIN_AND_ANSWER = """\
chain, _, rest = tokenizer.decode(written).partition({eos})
print(rest.partition({eos})[0])  # the answer; ignore what follows it
# {printed}"""

TOLD = """
The position id of {where} tells the model how many tokens of the
chain to leave out. `budget` is how many it writes of a chain of {longest_cot}."""

WITH_BUDGETS = """\
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained({folder})
model = AutoModelForCausalLM.from_pretrained({folder}{loading})
inputs = tokenizer({prompt}, return_tensors="pt", return_token_type_ids=False)
length = inputs["input_ids"].shape[1]
for budget in {budgets}:
    position_ids = torch.arange(length)[None]
    position_ids[0, {jumping}] += {longest_cot} - budget
    settings = {{"do_sample": False, "max_new_tokens": budget + {longest}, "eos_token_id": None}}
    written = model.generate(**inputs, position_ids=position_ids, **settings)[0, length:]
    chain, _, rest = tokenizer.decode(written).partition({eos})
    print(chain.strip(), "->", rest.partition({eos})[0].strip())
{printed}"""

ADAPTERS = """
The folder holds only low-rank adapters; loading it needs the package peft and the base model
`{base}`. `merge_lora=true` exports the whole model.
"""


@dataclass(frozen=True)
class CardExample:
    """A question that the card's code asks.

    Attributes:
        prompt: the text.
        printed: what the code prints, or would if it could be run here.
        correct: the correct output, with what is left of the chain.
        chain: what the model writes of the chain.
    """

    prompt: str
    printed: str
    correct: str
    chain: str = ""


@dataclass(frozen=True)
class Check:
    """What an exported folder does when plain transformers loads it.

    Attributes:
        same_tokens: prompts that its tokenizer turns into the tokens that were evaluated.
        tokenized: prompts tokenized.
        same_answers: evaluated prompts that are answered as in the evaluation.
        answered: prompts answered; 0 if the model could not be loaded.
        same_correct, correct: the same, among those that the evaluation answered correctly.
        internalized: the prompts end with both separators; in the evaluation, the model writes the
            second one itself.
    """

    same_tokens: int
    tokenized: int
    same_answers: int
    answered: int
    same_correct: int
    correct: int
    internalized: bool

    @property
    def text(self) -> str:
        """One or two sentences."""
        tokens = (
            f"the folder's tokenizer turns {self.same_tokens} of {self.tokenized} prompts into the "
            "tokens that were evaluated"
        )
        answers = (
            f"the model gives the answers of icot.evaluate to {self.same_answers} of "
            f"{self.answered} prompts" + self._which
            if self.answered
            else "the answers were not compared, as the base model could not be loaded."
        )
        return f"Loaded without icot, {tokens}, and {answers}"

    @property
    def _which(self) -> str:
        """Which answers differ, if some do, and why that can be."""
        if self.same_answers == self.answered:
            return "."
        which = f", among them {self.same_correct} of the {self.correct} correctly answered ones."
        if self.internalized:
            which += (
                " In the evaluation the model writes the second separator itself, which is part of "
                "the prompt here; so wrong answers may differ."
            )
        return which


def describe_training(
    title: str, is_removal: bool, schedule: AnySchedule, tokens_removed: int | None
) -> str:
    """A sentence on what was done in training.

    Args:
        title: the method's, for readers.
        is_removal: the method is the gradual removal of the chain, so a run that removes the same
            from its first batch to its last is a baseline of it.
        schedule: of the run.
        tokens_removed: when the weights were saved; None where that is not known.
    """
    start = "first" if schedule.side == "left" else "last"
    if isinstance(schedule, FixedScheduleConfig):
        by = "" if is_removal else f" by {title},"
        match schedule.tokens_removed:
            case 0:
                how = "with the whole chain of thought in every example (explicit CoT)"
            case "all":
                how = (
                    "without any chain of thought (No CoT): it was removed whole from every "
                    "example, from the first batch on"
                )
            case number:
                how = (
                    f"with the {start} {number} tokens of every chain of thought removed, from "
                    "the first batch on"
                )
        return f"A causal language model trained{by} {how}."
    if tokens_removed == 0:
        return (
            f"A causal language model trained by {title}, as it was before the schedule's first "
            "removal."
        )
    return (
        f"A causal language model trained by {title}. More and more tokens of each chain of "
        f"thought were removed during training, the {start} ones first."
    )


def describe_schedule(schedule: AnySchedule) -> str:
    """All keys of a schedule with their values."""
    return ", ".join(f"{key}={value}" for key, value in schedule.as_dict().items())


def describe_weights(model: ModelConfig, merged: bool) -> str:
    """Where the weights started, and which of them were trained."""
    start = f"`{model.name_or_path}`" if model.pretrained else "random weights"
    lora = model.lora
    if lora.r is None:
        return f"all trained, starting from {start}"
    where = "" if lora.target_modules is None else f" on {', '.join(lora.target_modules)}"
    trained = f"low-rank adapters (LoRA, r={lora.r}, alpha={lora.alpha:g}{where})"
    return f"only {trained} of {start} trained" + (", merged into the weights" if merged else "")


def describe_removal(tokens_removed: int, longest_cot: int, internalized: bool) -> str:
    """How much of the chains is removed at the stage of the weights."""
    if internalized:
        return "the whole chain of thought removed"
    if tokens_removed == 0:
        return "no token of the chain of thought removed"
    return f"{tokens_removed} of up to {longest_cot} chain-of-thought tokens removed"


@dataclass(frozen=True)
class CardUse:
    """A way to use the weights: as they were trained, or with one of several budgets.

    Attributes:
        figures: task, tokens removed, longest chain, split, and the figures of
            ``icot.evaluation``.
        check: of the folder.
        example: what the code asks, and what it prints.
    """

    figures: Mapping[str, Any]
    check: Check
    example: CardExample

    @property
    def budget(self) -> int:
        """Tokens left of the longest chain."""
        left: int = self.figures["longest_cot"] - self.figures["tokens_removed"]
        return left


def model_card(
    uses: Sequence[CardUse],
    done: Mapping[str, str],
    *,
    training: str,
    eos: str,
    internalized: bool,
    gradual: bool,
    max_new_tokens: int,
    adapters_of: str | None,
    loading: Mapping[str, Any],
    filler: str = "",
    fillers: tuple[int, int] = (0, 0),
) -> str:
    """The card as Markdown.

    Args:
        uses: one, or one for each budget of weights that are told theirs.
        done: further rows of the table, on what was done.
        training: a sentence on it.
        eos: the separator.
        internalized: the whole chain is removed, and the prompt ends with both separators.
        gradual: the chain was removed in steps.
        max_new_tokens: the length of the longest output.
        adapters_of: the base model if the folder holds only adapters.
        loading: further arguments of ``from_pretrained``, for adapters.
        filler: the filler token.
        fillers: the fewest and the most of them in a prompt.
    """
    first, has_budgets = uses[0].figures, len(uses) > 1
    _, most = fillers
    where = "the prompt's last token, the separator,"
    if most:
        where = "the separator, with which those of the fillers move,"
    longest_cot = first["longest_cot"]
    removed = describe_removal(first["tokens_removed"], longest_cot, internalized)
    output = "At the stage of these weights, the model answers directly."
    if has_budgets:
        removed = "any part of the chain of thought removed"
        output = (
            "The model writes as much of the chain as it is told to, a separator, the answer and "
            "another separator."
        )
    elif not internalized:
        rest = "the rest of the chain" if first["tokens_removed"] else "the chain"
        output = (
            f"At the stage of these weights, the model writes {rest}, a separator, the answer and "
            "another separator."
        )
    if most:
        output += " Its prompts end with filler tokens, as in training."
    figures = {"tokens removed": removed, **done}
    for use in uses:
        budget = f", budget {use.budget}" if has_budgets else ""
        figures |= {name + budget: text for name, text in _figures(use.figures).items()}
    implicit = gradual and (first["tokens_removed"] > 0 or has_budgets)
    head = HEAD.format(
        library="transformers" if adapters_of is None else "peft",
        tag="implicit-chain-of-thought" if implicit else "chain-of-thought",
        task=first["task"],
        removed=removed,
        training=training,
        output=output,
        rows="\n".join(f"| {name} | {text} |" for name, text in figures.items()),
    )
    printed = _comment(uses[0].example)
    if has_budgets:
        max_new_tokens -= longest_cot  # what is written beside the chain
        printed = "\n".join(f"# {use.example.chain} -> {_comment(use.example)}" for use in uses)
    template = WITH_BUDGETS if has_budgets else _code(internalized, adapters_of is not None)
    code = template.format(
        folder='"FOLDER"',
        loading="".join(f", {name}={value!r}" for name, value in loading.items()),
        prompt=json.dumps(uses[0].example.prompt),
        printed=printed,
        longest=max_new_tokens,
        longest_cot=longest_cot,
        budgets=tuple(use.budget for use in uses),
        eos=json.dumps(eos),
        end="tokenizer.eos_token_id" if internalized else None,
        jumping=f"{-1 - most}:" if most else -1,
    )
    text = head + PROMPT.format(
        checked="\n\n".join(
            (f"Budget {use.budget}. " if has_budgets else "") + use.check.text for use in uses
        ),
        separators=_separators(eos, internalized, filler, fillers),
        told=TOLD.format(longest_cot=longest_cot, where=where) if has_budgets else "",
        code=code,
    )
    return text if adapters_of is None else text + ADAPTERS.format(base=adapters_of)


def _separators(eos: str, internalized: bool, filler: str, fillers: tuple[int, int]) -> str:
    """What a prompt has behind the question."""
    least, most = fillers
    if not most:
        return f"`{eos}{eos}`" if internalized else f"`{eos}`"
    times = f"{most} times `{filler}`"
    if least < most:
        times = f"`{filler}` for each removed token ({least} to {most} times)"
    return f"`{eos}`, {times}" + (f", `{eos}`" if internalized else "") + ", without blanks between"


def _figures(measured: Mapping[str, Any]) -> dict[str, str]:
    """The rows of the table on what was measured."""
    found = {
        "exact match": (
            f"{measured['accuracy']:.4f} ({measured['accuracy_low']:.4f}-"
            f"{measured['accuracy_high']:.4f}, 95 %) on {measured['n']:,} examples of the "
            f"{measured['split']} split"
        )
    }
    if measured["token_accuracy"] is not None:
        found["token accuracy"] = f"{measured['token_accuracy']:.4f}"
    if measured["tokens_per_example"] is not None:
        found["tokens written per answer"] = f"{measured['tokens_per_example']:.1f}"
    return found


def _code(internalized: bool, has_adapters: bool) -> str:
    """The code that asks the model, with fields to fill in."""
    if not internalized:
        return GENERATE + CHAIN_AND_ANSWER
    return GENERATE + ANSWER if has_adapters else PIPELINE


def _comment(example: CardExample) -> str:
    """What the code prints, and the correct answer if it is another."""
    _, mark, answer = example.correct.partition(ANSWER_MARK)
    correct = mark + answer
    return example.printed + ("" if example.printed == correct else f" (correct is {correct})")
