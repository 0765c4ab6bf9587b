"""A page with a task of words, alone and beside multiplication."""

from pathlib import Path

import pytest

from icot.demonstration.questions import Text
from tests.conftest import icot
from tests.demonstration.pages import service
from tests.small import SMALL

UNKNOWN = "What is 2 plus 7 ?"  # training has no "What"


@pytest.fixture(scope="module")
def words_run(tmp_path_factory) -> Path:
    """A run on sums in words; the first held-out question has a word that training has not."""
    folder = tmp_path_factory.mktemp("words")
    lines = [f"Add {a} to {b} ?||{a} + {b} #### {a + b}" for a in range(10) for b in range(5)]
    (folder / "train.txt").write_text("\n".join(lines))
    held_out = [f"{UNKNOWN}||2 + 7 #### 9", *(f"Add {a} to {a} ?||#### {a}" for a in range(5))]
    (folder / "valid.txt").write_text("\n".join(held_out))
    model = [word for word in SMALL if not word.startswith("task")]
    done = icot(
        "train", *model, "task=text", f"task.data_dir={folder}", "task.test_file=null",
        "schedule=explicit", "trainer.max_steps=2", "hydra.run.dir=run",
        "paths.cache_dir=cache", cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder / "run"


def columns_of(page, question: str) -> list[str]:
    (*_, (_, columns, _)) = page.answer(question, 0)
    return columns.split("</article>")[:-1]


def test_an_unknown_word_is_told_where_it_is_asked_and_nowhere_else(words_run):
    page = service(words_run)
    assert page.first() == [UNKNOWN]
    (column,) = columns_of(page, "Add 3 to 3 ?")
    assert "refusal" not in column
    assert 'class="verdict' in column
    (column,) = columns_of(page, UNKNOWN)
    assert "symbols that this model does not know" in column


def test_the_tally_judges_questions_with_unknown_words_as_an_evaluation_does(words_run):
    (*_, (tally, _, failed)) = service(words_run).count(0, {})
    assert failed == ""
    assert [count.asked for count in tally.values()] == [10]


@pytest.fixture(scope="module")
def both(small_run, words_run):
    page = service(small_run, words_run)
    assert isinstance(page.questions, Text)
    return page


def test_a_product_is_laid_out_beside_another_task(both):
    product, words = columns_of(both, "2 1 * 4 3")
    assert 'class="sum"' in product
    assert "12 × 30" in product
    assert "✓ right" in product or "wrong; correct is 408" in product
    assert "symbols that this model does not know" in words


@pytest.mark.parametrize("question", ["1 0 1 1 0", "1 * 2 * 3"])
def test_what_is_no_product_is_answered_with_the_model_s_text(both, question):
    (*_, (said, columns, _)) = both.answer(question, 0)
    product = columns.split("</article>")[0]
    assert 'class="answer"' in product
    assert 'class="sum"' not in product
    assert "verdict" not in product
    assert f"{question}. {both.runs[0][0].run}, stage 8: " in said


def test_a_product_of_other_numbers_is_refused(both):
    assert "exactly 2 digits; yours have 3 and 2" in columns_of(both, "1 1 1 * 2 2")[0]
