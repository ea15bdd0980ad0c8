"""What one reads: every link leads somewhere, and the first page stays short."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NOTES = ROOT / "experiments" / "benchmarks" / "results"
"""Its files are parts of the page of benchmarks, and link from there."""
PAGES = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    *(p for p in sorted(ROOT.glob("experiments/**/*.md")) if p.parent != NOTES),
]
LINES = 150
"""No README is read that is longer."""


def links(page: Path) -> list[str]:
    """The targets of links and pictures, but not what looks like one in code."""
    text = page.read_text(encoding="utf-8")
    text = re.sub(r"^```.*?^```|`[^`\n]*`|^    .*?$", "", text, flags=re.M | re.S)
    return re.findall(r"\]\(([^)\s]+)\)", text)


def anchors(page: Path) -> set[str]:
    """What headings are called in links, as GitHub does it."""
    heads = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", h).strip().lower().replace(" ", "-") for h in heads}


@pytest.mark.parametrize("page", PAGES, ids=[str(p.relative_to(ROOT)) for p in PAGES])
def test_every_link_leads_somewhere(page):
    for link in links(page):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert target.is_relative_to(ROOT), link
        assert not anchor or anchor in anchors(target), link


def test_links_are_found():
    assert "CHANGELOG.md" in links(ROOT / "README.md")
    assert "guides/commands.md" in links(ROOT / "experiments" / "README.md")
    assert sum(len(links(page)) for page in PAGES) > 80


def test_the_first_page_is_short_and_has_one_program():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= LINES
    assert text.count("```python\n") == 1


def test_every_guide_and_the_readings_are_linked_from_both_first_pages():
    written = [ROOT / "experiments" / "results.md"]
    written += (ROOT / "experiments" / "guides").glob("*.md")
    assert len(written) == 6
    for page in (ROOT / "README.md", ROOT / "experiments" / "README.md"):
        linked = {(page.parent / link).resolve() for link in links(page)}
        assert linked.issuperset(written), page
