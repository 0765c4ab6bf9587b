"""The official answer extraction, and what it means for the answers that a model learns to write.

    >>> extract_answer("3 4 + 5 ( 3 9 ) #### 1,234 ")
    '#### 1234'

The answer is the text from the first ``####`` on, stripped and without commas; without a mark it is
the whole text. The published code trains on the answer that it extracts, so every answer of an
example is without commas too, wherever it comes from. Source: the published code of arXiv
2405.14838 (Internalize_CoT_Step_by_Step).
"""

ANSWER_MARK = "####"


def extract_answer(text: str) -> str:
    """The answer in ``text``; two answers are equal if these strings are."""
    _, mark, tail = text.partition(ANSWER_MARK)
    return clean_answer(mark + tail if mark else text)


def clean_answer(answer: str) -> str:
    """The answer as examples have it and as answers are compared: ``1,234 `` is ``1234``."""
    return answer.replace(",", "").strip()
