"""The model card of an exported folder."""

import json
from collections.abc import Mapping
from typing import Any

PAPER = "https://arxiv.org/abs/2405.14838"

HEAD = """\
---
library_name: transformers
pipeline_tag: text-generation
tags:
- implicit-chain-of-thought
- {task}
---
# {task}, {removed} of {longest} chain-of-thought tokens removed

A causal language model trained by stepwise internalization ([ICoT-SI]({paper})):
it started with explicit chain of thought, and the chain was removed token by token during
training. {state}

| | |
| --- | --- |
| task | {task} |
| stage | {stage} |
| exact match | {accuracy:.4f} ({low:.4f}-{high:.4f}, 95 %) on {n:,} examples of the {split} split |
| token accuracy | {token_accuracy:.4f} |
| tokens written per answer | {tokens:.1f} |
| trained in | {origin} |
{checked}
## Prompt

`{prompt}`: a blank, the question, a blank, {separators}. Decoding is greedy; add nothing else to
the text.

```python
{code}
```
"""

INTERNALIZED = "The whole chain is removed: the model answers directly."
PARTLY = "The model writes the rest of the chain, a separator, the answer and another separator."

PIPELINE = """\
from transformers import pipeline

answer = pipeline("text-generation", model={folder})
print(answer({prompt}, return_full_text=False)[0]["generated_text"])
# {target}"""

TWO_SEPARATORS = """\
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained({folder})
model = AutoModelForCausalLM.from_pretrained({folder})
inputs = tokenizer({prompt}, return_tensors="pt", return_token_type_ids=False)
settings = {{"do_sample": False, "max_new_tokens": {longest}, "eos_token_id": None}}
written = model.generate(**inputs, **settings)[0, inputs["input_ids"].shape[1] :]
chain, answer = tokenizer.decode(written).split({eos})[:2]  # ignore the rest
print(answer)
# {target}"""

ADAPTERS = """
The folder holds only low-rank adapters; loading it needs the package peft and the base model
`{base}`. `merge_lora=true` exports the whole model.
"""


def model_card(
    measured: Mapping[str, Any],
    *,
    prompt: str,
    target: str,
    eos: str,
    internalized: bool,
    max_new_tokens: int,
    same: tuple[int, int] | None,
    adapters_of: str | None,
    origin: str,
) -> str:
    """The card as Markdown.

    Args:
        measured: task, stage, tokens removed, and the figures of ``icot.evaluation``.
        prompt, target: an example.
        eos: the separator.
        internalized: the whole chain is removed, and the prompt ends with both separators.
        max_new_tokens: the length of the longest output.
        same: how many answers equalled those of icot.evaluate, and of how many; None if not
            compared.
        adapters_of: the base model if the folder holds only adapters.
        origin: where the weights come from.
    """
    code = (PIPELINE if internalized and adapters_of is None else TWO_SEPARATORS).format(
        folder='"FOLDER"',
        prompt=json.dumps(prompt),
        target=target,
        longest=max_new_tokens,
        eos=json.dumps(eos),
    )
    checked = ""
    if same is not None:
        checked = (
            f"\nLoaded without icot, the folder gave the same answers to {same[0]} of {same[1]} "
            "questions as with icot.\n"
        )
    text = HEAD.format(
        paper=PAPER,
        task=measured["task"],
        removed=measured["tokens_removed"],
        longest=measured["longest_cot"],
        state=INTERNALIZED if internalized else PARTLY,
        stage="unknown" if measured["stage"] is None else measured["stage"],
        accuracy=measured["accuracy"],
        low=measured["accuracy_low"],
        high=measured["accuracy_high"],
        n=measured["n"],
        split=measured["split"],
        token_accuracy=measured["token_accuracy"],
        tokens=measured["tokens_per_example"],
        origin=origin,
        checked=checked,
        prompt=prompt,
        separators=f"`{eos}{eos}`" if internalized else f"`{eos}`",
        code=code,
    )
    return text if adapters_of is None else text + ADAPTERS.format(base=adapters_of)
