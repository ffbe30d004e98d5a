"""The documents as a site: every page is in its menu, no link is broken, and a browser asks for nothing elsewhere."""

import shutil
import subprocess
import sys
import threading
import tomllib
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import expect
from support.browser import recorded_requests

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / ".ci" / "zensical.toml"

pytestmark = pytest.mark.slow


def build(folder):
    return subprocess.run(
        [Path(sys.executable).with_name("zensical"), "build", "--strict"], cwd=folder, capture_output=True, text=True, timeout=120
    )


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """The documents and the site's configuration in a folder of their own: the build writes beside them."""
    folder = tmp_path_factory.mktemp("site")
    shutil.copy(CONFIG, folder)
    shutil.copytree(ROOT / "docs", folder / "docs")
    return folder


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def address(sources):
    done = build(sources)
    assert done.returncode == 0, done.stdout + done.stderr
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=sources / "site"))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def pages_of(menu):
    for entry in menu:
        for target in entry.values():
            yield from [target] if isinstance(target, str) else pages_of(target)


def test_every_document_is_in_the_menu():
    menu = list(pages_of(tomllib.loads(CONFIG.read_text(encoding="utf-8"))["project"]["nav"]))
    assert sorted(menu) == sorted(path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md"))


def test_a_page_shows_its_neighbours_and_asks_for_nothing_elsewhere(address, new_page):
    page = new_page()
    asked, problems = recorded_requests(page), []
    page.on("pageerror", lambda error: problems.append(error))
    page.goto(f"{address}/index.html")
    page.get_by_role("link", name="a tour of 15 minutes", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("A tour of 15 minutes")
    page.get_by_role("link", name="Write a task").first.click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Write a task")
    assert all(request.startswith((address, "data:", "blob:")) for request in asked) and not problems


def test_search_finds_a_word_of_a_page(address, new_page):
    page = new_page()
    page.goto(f"{address}/index.html")
    page.get_by_role("button", name="Search").first.click()
    page.keyboard.type("Krippendorff")
    expect(page.get_by_role("link", name="Review").first).to_be_visible()


def test_a_broken_link_stops_the_build(sources, tmp_path):
    shutil.copy(CONFIG, tmp_path)
    shutil.copytree(sources / "docs", tmp_path / "docs")
    (tmp_path / "docs" / "tour.md").write_text("# A tour\n\n[nothing](nowhere.md)\n")
    done = build(tmp_path)
    assert done.returncode != 0 and "page does not exist" in done.stdout + done.stderr
