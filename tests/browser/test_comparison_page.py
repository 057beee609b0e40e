"""The comparison's page in a browser: complete, alone, readable on any screen, with videos in step."""

from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow
BACKGROUND = "return getComputedStyle(document.body).backgroundColor.match(/[\\d.]+/g).slice(0, 3).map(Number)"
COLOR = BACKGROUND.replace("backgroundColor", "color")
PHONE = 360  # pixels


@pytest.fixture
def page(project: Path) -> str:
    return (project / "runs/comparison/report.html").as_uri()


def luminance(color: list[float]) -> float:
    """Relative luminance as in the Web Content Accessibility Guidelines."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (value / 255 for value in color)]
    return sum(weight * value for weight, value in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_page_shows_all_objectives_without_an_error_or_a_request(browser: Any, page: str) -> None:
    browser.open(page)
    browser.shows("reconstruction", "reward_only", "pendulum_state")
    assert browser.errors() == []
    assert [url for url in browser.requests() if not url.startswith(("file:", "data:", "blob:"))] == []


def test_every_section_has_content(browser: Any, page: str) -> None:
    browser.open(page)
    sections = browser.elements("section")
    assert len(sections) >= 5
    for section in sections:
        heading, *_ = section.text.splitlines()
        drawn = section.find_elements("css selector", "svg, img, video, table, pre, li, p, figure, details")
        assert drawn, f"{heading} is empty"


@pytest.mark.parametrize("dark", [False, True])
def test_text_can_be_read_in_both_colour_schemes(browser: Any, page: str, dark: bool) -> None:
    browser.open(page, dark=dark)
    paper, text = luminance(browser.run(BACKGROUND)), luminance(browser.run(COLOR))
    assert (paper < 0.2) is dark
    assert (max(paper, text) + 0.05) / (min(paper, text) + 0.05) >= 7


def test_phone_shows_the_page_without_scrolling_sideways(browser: Any, page: str) -> None:
    browser.open(page, width=PHONE)
    assert browser.run("return document.documentElement.scrollWidth") <= PHONE


def test_videos_of_all_objectives_play_in_step(browser: Any, page: str) -> None:
    browser.open(page)
    place = "[...document.querySelectorAll('[data-videos]')].find(place => place.querySelector('video'))"
    group = f"[...{place}.querySelectorAll('video')]"
    assert browser.run(f"return {group}.length") == 2
    browser.wait(lambda: browser.run(f"return {group}.every(video => video.readyState >= 2)"))
    browser.run(f"{place}.querySelector('button').click()")
    browser.wait(lambda: browser.run(f"return {group}.every(video => video.currentTime > 0.4)"))
    times = browser.run(f"return {group}.map(video => video.currentTime)")
    assert abs(times[0] - times[1]) < 0.2
