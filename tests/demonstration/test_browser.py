"""The page in a real browser: Chromium, driven by Playwright; skipped where either lacks."""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.demonstration.pages import served

pytest.importorskip("gradio")
playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="needs chromium on the path"),
    pytest.mark.slow,
]

WIDE, NARROW = 1280, 390  # pixels


@pytest.fixture(scope="module")
def page_of_a_run(small_run) -> Iterator[str]:
    with served(small_run, tally=10) as address:
        yield address


@pytest.fixture(scope="module")
def chromium():
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def visit(chromium, address: str, width: int = WIDE, theme: str = "light"):
    """A page that is open; afterwards, nothing has gone wrong and nobody else has been asked."""
    context = chromium.new_context(viewport={"width": width, "height": 900}, color_scheme=theme)
    page = context.new_page()
    page.set_default_timeout(30_000)
    wrong: list[str] = []
    elsewhere: list[str] = []
    page.on("console", lambda m: wrong.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))

    def note(url: str) -> None:
        if not url.startswith((address, "data:", "blob:")):
            elsewhere.append(url)

    page.on("request", lambda request: note(request.url))
    page.goto(address)
    page.get_by_role("button", name="Answer").wait_for()
    yield page
    context.close()
    assert wrong == []
    assert elsewhere == []


def answered(page, question: str, cards: int = 3) -> list[str]:
    """The texts of the columns, once all have answered."""
    done = page.locator(
        f"#columns article[aria-label*='{question}'] .verdict", has_text=re.compile("right|wrong")
    )
    playwright.expect(done).to_have_count(cards)
    return page.locator("#columns article").all_inner_texts()


def test_a_question_is_typed_and_three_stages_answer(chromium, page_of_a_run):
    with visit(chromium, page_of_a_run) as page:
        page.get_by_label("First number").fill("12")
        page.get_by_label("Second number").fill("34")
        page.get_by_label("Second number").press("Enter")
        columns = answered(page, "12 × 34")
        assert [column.splitlines()[0] for column in columns] == ["stage 0", "stage 4", "stage 8"]
        for column in columns:
            assert "12 × 30" in column  # the second line of the multiplication
        page.get_by_text("As the model writes it").first.click()
        assert page.locator("#columns code").first.is_visible()


def test_the_slider_shows_another_stage(chromium, page_of_a_run):
    with visit(chromium, page_of_a_run) as page:
        page.get_by_role("button", name="Answer").click()
        answered(page, "×")
        assert page.locator("circle.chosen").count() == 3
        slider = page.locator("input[type=range]")
        for left in ("3", "2"):
            slider.press("ArrowLeft")
            page.locator("#columns h3", has_text=f"stage {8 - int(left)}").wait_for()
        assert "writes 2 of 8" in answered(page, "×")[1]
        title = page.locator("circle.chosen title").nth(1).text_content()
        assert "stage 6" in title


def test_a_tally_and_a_random_question(chromium, page_of_a_run):
    with visit(chromium, page_of_a_run) as page:
        for asked in (10, 20):
            page.get_by_role("button", name="Ask 10 random questions").click()
            playwright.expect(page.locator("#tally td", has_text=f"of {asked}")).to_have_count(3)
        page.get_by_role("button", name="Start again").click()
        page.get_by_text("No question asked yet.").wait_for()
        before = page.get_by_label("First number").input_value()
        for _ in range(5):  # the same one may be drawn
            page.get_by_role("button", name="Random question", exact=True).click()
            answered(page, "×")
            if page.get_by_label("First number").input_value() != before:
                break
        assert page.get_by_label("First number").input_value() != before


def test_wrong_input_is_answered_and_read_aloud(chromium, page_of_a_run):
    with visit(chromium, page_of_a_run) as page:
        assert page.locator("#said").get_attribute("aria-live") == "polite"
        page.get_by_label("First number").fill("7" * 200)
        page.get_by_label("First number").press("Enter")
        page.get_by_text("First number: 200 characters are too many").wait_for()
        page.get_by_label("First number").fill("<img src=x onerror=alert(1)>")
        page.get_by_label("First number").press("Enter")
        page.get_by_text("First number: a whole number has digits alone").wait_for()
        page.get_by_label("First number").fill("123")
        page.get_by_label("First number").press("Enter")
        page.get_by_text("exactly 2 digits").first.wait_for()
        page.get_by_label("First number").fill("12")
        page.get_by_label("First number").press("Enter")
        answered(page, "12 ×")
        playwright.expect(page.locator("#said")).to_contain_text(
            re.compile(r"12 × \d\d\. run, stage 0: .*(right|wrong), \d+ tokens")
        )


def test_two_visitors_at_once(chromium, page_of_a_run):
    with visit(chromium, page_of_a_run) as one, visit(chromium, page_of_a_run) as other:
        for page, number in ((one, "21"), (other, "43")):
            page.get_by_label("First number").fill(number)
            page.get_by_label("Second number").fill("11")
        for page in (one, other):
            page.get_by_role("button", name="Answer").click()
        assert "21" in answered(one, "21 × 11")[0]
        assert "43" in answered(other, "43 × 11")[0]


def test_the_keyboard_alone_does_everything(chromium, page_of_a_run):
    with visit(chromium, page_of_a_run) as page:

        def tab_to(wanted: str) -> None:
            for _ in range(30):
                page.keyboard.press("Tab")
                focused = page.evaluate(
                    "(e => [e.getAttribute('aria-label'), e.innerText, e.type,"
                    " e.closest('label')?.innerText].join(' '))(document.activeElement)"
                )
                if wanted in focused:
                    return
            raise AssertionError(f"Tab never reaches {wanted}")

        tab_to("First number")
        page.keyboard.type("12")  # a field that is reached by Tab is selected
        tab_to("Second number")
        page.keyboard.type("34")
        tab_to("Answer")
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline == "solid"  # where the keyboard is can be seen
        page.keyboard.press("Enter")
        answered(page, "12 × 34")
        tab_to("range")
        page.keyboard.press("ArrowRight")
        page.locator("#columns h3", has_text="stage 3").wait_for()
        tab_to("Ask 10")
        page.keyboard.press("Space")
        page.locator("#tally td").first.wait_for()


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_it_fits_and_can_be_read(chromium, page_of_a_run, width, theme, tmp_path: Path):
    with visit(chromium, page_of_a_run, width, theme) as page:
        page.get_by_role("button", name="Answer").click()
        answered(page, "×")
        page.get_by_role("button", name="Ask 10 random questions").click()
        page.locator("#tally td").first.wait_for()
        assert page.evaluate("document.documentElement.scrollWidth") == width
        for place in (".card h3", ".card .faint", ".card .verdict", "#tally td", ".card .note"):
            assert contrast(page, place) >= 4.5, place
        page.screenshot(path=tmp_path / f"{width}-{theme}.png", full_page=True)


def contrast(page, selector: str) -> float:
    """The contrast of a text against what is behind it (WCAG 2)."""
    colours = page.locator(selector).first.evaluate(
        """element => {
            let behind = element;
            const background = e => getComputedStyle(e).backgroundColor;
            while (behind && /rgba\\(.*, 0\\)|transparent/.test(background(behind)))
                behind = behind.parentElement;
            const parse = text => text.match(/[\\d.]+/g).slice(0, 3).map(Number);
            const back = background(behind || document.body);
            return [getComputedStyle(element).color, back].map(parse);
        }"""
    )

    def luminance(colour: list[float]) -> float:
        linear = [
            (c / 255) / 12.92 if c / 255 <= 0.04045 else ((c / 255 + 0.055) / 1.055) ** 2.4
            for c in colour
        ]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    lighter, darker = sorted(map(luminance, colours), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)
