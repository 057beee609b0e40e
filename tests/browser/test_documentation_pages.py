"""The built documentation in a browser: it asks no other server, and its search finds pages."""

import functools
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(root: Path) -> Iterator[str]:
    """The address of the site that ``make docs`` built; a search needs a server."""
    if not (root / "site/index.html").exists():
        pytest.skip("site/index.html does not exist; run `make docs`")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(root / "site"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def test_page_asks_no_other_server_and_has_no_error(browser: Any, site: str) -> None:
    browser.open(site)
    browser.shows("Dreamset")
    assert [url for url in browser.requests() if not url.startswith((site, "data:", "blob:"))] == []
    assert browser.errors() == []


def test_search_finds_the_page_of_a_word(browser: Any, site: str) -> None:
    browser.open(site)
    browser.wait(lambda: browser.elements("[data-md-component=search-query]"))
    browser.run("document.querySelector('[data-md-toggle=search]').click()")
    browser.elements("[data-md-component=search-query]")[0].send_keys("pessimism")
    found = browser.wait(lambda: [item.text for item in browser.elements(".md-search-result__item") if item.text])
    assert any("pessimis" in text.lower() for text in found)
