"""Chains made by hand, as people would write them."""

import re

import pytest

from icot.demonstration.long_multiplication import as_people_write, lay_out
from icot.tasks.mixed_digits import MixedMultiplication
from icot.tasks.multiplication import Multiplication, example

TASK = Multiplication(3, train_size=10, valid_size=5, test_size=5)
ASKED = example(123, 456, 3)  # 8 3 7 0 + 0 5 1 6 0 ( 8 8 8 6 0 ) + 0 0 2 9 4 0
TARGET = f"{ASKED.cot} #### {ASKED.answer}"


def lines(html: str) -> list[str]:
    return re.sub("<[^>]*>", "", html).splitlines()


def test_a_whole_chain():
    html = lay_out(TASK, ASKED, TARGET, ASKED.cot.split(), ASKED.answer.split(), done=True)
    assert lines(html) == [
        "     123", "×    456", "────────",
        "    0738  123 × 6", "+  06150  123 × 50", "=  06888  sum", "+ 049200  123 × 400",
        "────────", "= 056088",
    ]  # fmt: skip
    assert "bad" not in html


@pytest.mark.parametrize("removed", [0, 6, 12, 23, 24])
def test_removed_tokens_are_dots_and_the_others_stay_in_place(removed):
    left = ASKED.cot.split()[removed:]
    target = " ".join([*left, "####", ASKED.answer])
    html = lay_out(TASK, ASKED, target, left, ASKED.answer.split(), done=True)
    digits = sum(symbol.isdigit() for symbol in ASKED.cot.split()[:removed])
    assert html.count("·") == digits
    assert "bad" not in html
    assert len(lines(html)) == 9


def test_a_wrong_digit_is_marked_where_it_stands():
    written = ASKED.cot.split()
    written[12] = "9"  # the tens of the running sum, 6888
    html = lay_out(TASK, ASKED, TARGET, written, ["8", "8", "0", "6", "5", "1"], done=True)
    assert lines(html)[5].startswith("=  06898")
    assert lines(html)[-1] == "= 156088"
    assert html.count("bad") == 2


def test_a_cut_output_shows_what_is_missing_and_what_may_still_come():
    written = ASKED.cot.split()[:6]
    going = lay_out(TASK, ASKED, TARGET, written, [], done=False)
    assert lines(going)[4].startswith("+      0")
    ended = lay_out(TASK, ASKED, TARGET, written, [], done=True)
    assert lines(ended)[4].startswith("+  ____0")


def test_what_a_model_writes_is_text_and_never_html():
    html = lay_out(TASK, ASKED, TARGET, ["<", "<img>", "&"], ["<script>"], done=True)
    assert "<img" not in html
    assert "<script" not in html
    assert "&lt;" in html


@pytest.mark.parametrize("chain", ["long", "short", "tree"])
@pytest.mark.parametrize("order", ["reversed", "plain", "reversed_product"])
@pytest.mark.parametrize("padding", [False, True])
def test_every_form_of_the_chain_ends_in_the_product(chain, order, padding):
    task = MixedMultiplication(1, 4, chain=chain, order=order, padding=padding)
    for asked in next(task.chunks("valid"))[:50]:
        target = f"{asked.cot} #### {asked.answer}"
        html = lay_out(task, asked, target, asked.cot.split(), asked.answer.split(), done=True)
        first, second, *_, last = (int(re.sub(r"\D", "", line)) for line in lines(html)
                                   if not set(line) <= {"─"})  # fmt: skip
        assert last == first * second
        assert as_people_write(f" {asked.answer}", task) == f"{first * second:,}"
        for line in lines(html)[3:-2]:
            number, _, note = line.removeprefix(line[0]).partition(" × ")
            if note:
                digits, first_factor = number.rsplit("  ", 1)
                places = digits.replace(" ", "0") if chain == "short" else digits
                assert int(places) == int(first_factor) * int(note)
