"""The documentation as a site: every link leads somewhere, and nothing is loaded from elsewhere."""

import re
import subprocess
import sys
from html.parser import HTMLParser

import pytest

from tests.conftest import REPOSITORY

LOADED = {"src", "srcset", "data", "poster", "action"}  # besides the target of a <link>
ELSEWHERE = re.compile(r"(?:\w+:)?//")
IN_STYLES = re.compile(r"(?:url\(|@import)\s*['\"]?([^'\")\s;]+)")


class Loads(HTMLParser):
    """What a browser fetches to show a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        for name, value in attributes:
            if name in LOADED or (tag == "link" and name == "href"):
                self.found.append(value or "")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(build, cwd=REPOSITORY, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return folder


def test_nothing_is_loaded_from_elsewhere(site):
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 20
    for page in pages:
        loads = Loads()
        loads.feed(page.read_text(encoding="utf-8"))
        assert loads.found
        for target in loads.found:
            assert not ELSEWHERE.match(target), f"{page}: {target}"
    for style in site.rglob("*.css"):
        for target in IN_STYLES.findall(style.read_text(encoding="utf-8")):
            assert not ELSEWHERE.match(target), f"{style}: {target}"


def test_the_reference_is_made_from_docstrings(site):
    text = (site / "api" / "python.html").read_text(encoding="utf-8")
    assert "What the model writes for questions in the task" in text
    assert 'id="icot.commands.api.Run.answer"' in text
