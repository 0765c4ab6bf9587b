"""The official answer extraction.

    >>> extract_answer("3 4 + 5 ( 3 9 ) #### 1,234 ")
    '#### 1234'

The answer is the text from the first ``####`` on, stripped and without commas; without a mark it is
the whole text. Source: the published code of arXiv 2405.14838 (Internalize_CoT_Step_by_Step).
"""

ANSWER_MARK = "####"


def extract_answer(text: str) -> str:
    """The answer in ``text``; two answers are equal if these strings are."""
    _, mark, tail = text.partition(ANSWER_MARK)
    return (mark + tail if mark else text).strip().replace(",", "")
