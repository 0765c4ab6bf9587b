"""ProntoQA: is a statement about somebody true, by a chain of rules? (arXiv 2210.01240)

    Each yumpus is a dumpus. Dumpuses are not wooden. Max is a yumpus. Is the following statement
    true or false? Max is wooden.||Max is a yumpus. ... Max is not wooden. #### False

(one line). A row of Logic-LLM's files has context, question, options, explanation, answer, and the
answer is the text of the option; or a row is one of ProsQA's: question, steps, answer.
"""

from collections.abc import Mapping
from typing import Any

from icot.tasks import prosqa
from icot.tasks.base import Example
from icot.tasks.lines import example_of, text_of


def example_from_row(row: Mapping[str, Any]) -> Example:
    """The example in a row.

    Raises:
        ValueError: no option has the answer's letter, or a part is no text.
    """
    if "steps" in row:
        return prosqa.example_from_row(row)
    options = dict(text_of(option, "option").split(") ", 1) for option in row["options"])
    if row["answer"] not in options:
        raise ValueError(f"its answer {row['answer']!r} is none of {', '.join(options)}")
    question = f"{text_of(row['context'], 'context')} {text_of(row['question'], 'question')}"
    chain = " ".join(text_of(step, "step") for step in row["explanation"])
    return example_of(question, chain, options[row["answer"]])
