"""How the columns look: HTML, made of values alone."""

from collections.abc import Sequence
from html import escape

from icot.demonstration.figures import accuracy_of
from icot.demonstration.long_multiplication import as_people_write, is_product, lay_out
from icot.demonstration.race import Column
from icot.tasks.answers import ANSWER_MARK
from icot.tasks.base import Example


def show_columns(columns: Sequence[Column], question: str) -> str:
    """The columns side by side."""
    cards = "".join(_card(column, question) for column in columns)
    return f'<div class="cards">{cards}</div>'


def describe(columns: Sequence[Column], question: str) -> str:
    """What the columns say, as a text to be read aloud."""
    parts = [f"{question}."]
    for column in columns:
        verdict = {True: ", right", False: ", wrong", None: ""}[column.correct]
        said = column.refusal or f"{_as_read(column)}{verdict}, {_count(len(column.tokens))}."
        parts.append(f"{column.writer.name}: {said}")
    return " ".join(parts)


def _card(column: Column, question: str) -> str:
    writer = column.writer
    measured = "" if writer.accuracy is None else f" · exact match {accuracy_of(writer)}"
    head = (
        f"<h3>{escape(writer.title)}</h3>"
        f'<p class="faint">{escape(writer.run)}: writes {writer.left} of {writer.longest} '
        f"chain tokens{measured}</p>"
    )
    if column.refusal:
        body = f'<p class="refusal">{escape(column.refusal)}</p>'
    elif column.asked is None:
        body = '<p class="faint">waits</p>'
    else:
        body = f"{_work(column, column.asked)}{_verdict(column)}{_cost(column)}"
    name = escape(f"{writer.name}, {question}", quote=True)
    return f'<article class="card" aria-label="{name}">{head}{body}</article>'


def _work(column: Column, asked: Example) -> str:
    chain, _, answer = column.text.partition(ANSWER_MARK)
    task = column.writer.task
    if _is_laid_out(column):
        symbols = chain.split(), answer.split()
        more = len(symbols[0]) - len(column.target.partition(ANSWER_MARK)[0].split())
        said = f'<p class="wrong">{more} more than the chain has</p>' if more > 0 else ""
        return lay_out(task, asked, column.target, *symbols, column.done) + _aloud(column) + said
    written = f'<p class="chain">{escape(chain.strip())}</p>' if chain.strip() else ""
    return f'{written}<p class="answer">{escape(answer.strip()) or "&nbsp;"}</p>'


def _verdict(column: Column) -> str:
    if column.correct is None:
        return '<p class="verdict">&nbsp;</p>' if column.target else ""
    if column.correct:
        return '<p class="verdict right">✓ right</p>'
    correct = escape(as_people_write(column.target.partition(ANSWER_MARK)[2], column.writer.task))
    return f'<p class="verdict wrong">✗ wrong; correct is {correct}</p>'


def _cost(column: Column) -> str:
    tokens = _count(len(column.tokens))
    times = f"{1000 * column.seconds:.1f} ms, the first after {1000 * column.first:.1f} ms"
    text = escape(column.text) or "&nbsp;"
    return (
        f'<p class="faint">{tokens} in {times}</p>'
        f"<details><summary>As the model writes it</summary><code>{text}</code></details>"
    )


def _count(tokens: int) -> str:
    return "1 token" if tokens == 1 else f"{tokens} tokens"


def _is_laid_out(column: Column) -> bool:
    """Whether the column is a multiplication, and its chain and product are known."""
    return is_product(column.writer.task) and bool(column.target)


def _as_read(column: Column) -> str:
    answer = column.text.partition(ANSWER_MARK)[2]
    if not _is_laid_out(column):
        return answer.strip() or "nothing"
    return as_people_write(answer, column.writer.task)


def _aloud(column: Column) -> str:
    """The same for those who hear it."""
    chain = escape(column.text.partition(ANSWER_MARK)[0].strip()) or "no chain"
    return f'<p class="unseen">Writes {chain}; answer {escape(_as_read(column))}.</p>'
