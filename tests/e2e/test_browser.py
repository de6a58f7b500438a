"""The pages for people in a real browser: everything comes from here, and trying a service out works."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from conftest import Require
from e2e.browser import Browser, Page
from e2e.running import Argosy, RecipeFolder

IMAGES = Path(__file__).parents[2] / "docs" / "images"


@pytest.fixture(scope="module")
def browser(require: Require) -> Iterator[Browser]:
    with Browser(require("chromium")) as browser:
        yield browser


def only_from(page: Page, url: str) -> None:
    """Nothing was asked of any other host, and nothing went wrong."""
    elsewhere = {urlsplit(asked).netloc for asked in page.requested if asked.startswith("http")} - {
        urlsplit(url).netloc
    }
    assert elsewhere == set()
    assert [text for text in page.complaints if "401" not in text] == []


def test_the_page_of_the_control_plane(argosy: Argosy, browser: Browser) -> None:
    url = argosy.address["url"]
    page = browser.page()
    page.go(f"{url}/docs")
    page.wait_for("document.querySelectorAll('.opblock').length > 30")
    text = page.run("document.body.innerText")
    for path in ("/v1/models", "/v1/services/{name}/rollback", "/healthz"):
        assert path in text
    page.click(".btn.authorize")
    page.type(".modal-ux input", (argosy.home / "token").read_text().strip())
    page.click(".modal-ux .btn.authorize", "Authorize")
    page.click(".modal-ux .btn-done")
    page.click("#operations-system-status_v1_status_get .opblock-summary-control")
    page.click("#operations-system-status_v1_status_get .try-out__btn", "Try it out")
    page.click("#operations-system-status_v1_status_get .execute")
    page.wait_for("document.body.innerText.includes('\"started_at\"')")
    only_from(page, url)


@pytest.mark.shows(
    "Documents",
    "Swagger UI in a real browser",
    "the key field, the sample scored from the page, no other host asked",
)
def test_a_service_is_tried_out(argosy: Argosy, recipe: RecipeFolder, browser: Browser) -> None:
    """As a person does: the key as the password of the page, then once more for the calls."""
    argosy.ok("service", "create", "doubling", "-m", recipe.model(2), *recipe.options())
    docs, key = argosy.json("service", "show", "doubling")["docs_url"], argosy.key("doubling")
    page = browser.page(key)
    page.go(docs)
    page.click(".btn.authorize")
    page.type(".modal-ux input", key)
    page.click(".modal-ux .btn.authorize", "Authorize")
    page.click(".modal-ux .btn-done")
    page.click(".opblock-post .opblock-summary-control")
    page.click(".opblock-post .try-out__btn", "Try it out")
    sample = page.wait_for("document.querySelector('.opblock-post textarea')?.value")
    assert json.loads(sample) == {"numbers": [1.0, 2.0]}
    page.click(".opblock-post .execute")
    answered = ".opblock-post .live-responses-table .response"
    page.wait_for(f"!!document.querySelector('{answered} .microlight, {answered} .highlight-code')")
    answer = page.run(f"document.querySelector('{answered}').innerText")
    assert answer.startswith("200")
    assert json.loads("".join(page.run(f"document.querySelector('{answered} pre').innerText").split())) == [2.0, 4.0]
    only_from(page, docs)
    if os.environ.get("ARGOSY_SCREENSHOTS") == "1":
        # The curl line that Swagger UI shows has the key in it.
        page.run("document.querySelectorAll('.curl-command').forEach(e => e.remove())")
        page.run("document.querySelector('.opblock-post textarea').style.minHeight = '110px'")
        page.picture(IMAGES / "swagger.png")


def test_the_page_of_a_service_stays_shut_without_a_key(argosy: Argosy, recipe: RecipeFolder, browser: Browser) -> None:
    argosy.ok("service", "create", "shut", "-m", recipe.model(2), *recipe.options())
    page = browser.page()
    page.go(argosy.json("service", "show", "shut")["docs_url"])
    page.wait_for("document.readyState === 'complete' && !!document.documentElement")
    assert "numbers" not in page.run("document.documentElement.outerHTML")
    assert any("401" in text for text in page.complaints)
    argosy.ok("service", "update", "shut", "--public-docs", "true")
    page.go(argosy.json("service", "show", "shut")["docs_url"])
    page.wait_for("document.querySelectorAll('.opblock').length > 0")
