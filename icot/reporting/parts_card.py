"""The card of an exported model of several causal LMs, which plain transformers cannot use."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

CARD = """\
---
library_name: icot
tags:
- implicit-chain-of-thought
- {task}
---
# {task}, {names}

Several causal language models that answer together, trained by {title}.

| | |
| --- | --- |
| task | {task} |
| trained in | {trained_in} |
| exact match | {accuracy:.4f} ({low:.4f}-{high:.4f}, 95 %) on {n:,} examples of the {split} split |

{folders} are ordinary folders of transformers, each a causal LM; neither answers by itself.
`rest.safetensors` has the weights between them. There is no plain pipeline for the whole: icot
loads it, and writes the same for all of these examples as the run that it comes from.

```python
import icot

print(icot.load("FOLDER").answer([{question}], max_new_tokens={longest}))
# {printed}
```
"""


def parts_card(
    *,
    task: str,
    title: str,
    figures: Mapping[str, Any],
    parts: Sequence[str],
    question: str,
    printed: str,
    correct: str,
    longest: int,
    trained_in: str,
) -> str:
    """The card as Markdown.

    Args:
        task: its name.
        title: the method's, for readers.
        figures: accuracy with its interval, ``n`` and ``split``.
        parts: names of the folders.
        question: that the code asks.
        printed: what the model writes.
        correct: what it should write.
        longest: the most tokens that it may write.
        trained_in: the run and the file of the weights.
    """
    wrong = "" if printed == correct else f", where {correct} is correct"
    return CARD.format(
        task=task,
        names=" and ".join(parts),
        title=title,
        trained_in=trained_in,
        longest=longest,
        accuracy=figures["accuracy"],
        low=figures["accuracy_low"],
        high=figures["accuracy_high"],
        n=figures["n"],
        split=figures["split"],
        folders=" and ".join(f"`{name}/`" for name in parts),
        question=json.dumps(question),
        printed=f"{[printed]!r}{wrong}",
    )
