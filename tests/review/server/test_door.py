"""Only who holds the address comes in, and only the server's own pages may read or write."""

import pytest
from support.review_pages import ReviewProcess, Visitor, journal_rows, some_texts, write_store
from support.small_task import SMALL_TASK

from potstill.contract.texts import Text

pytestmark = pytest.mark.slow

EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'><b>"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("review")
    task = folder / "task.toml"
    task.write_text(
        SMALL_TASK.replace('guideline = ""', 'guideline = ""\n[input]\ntarget = true')
        .replace('label = "', 'target = "x"\nlabel = "')
        .replace('name = "up"', "name = '<i>up</i>'")
        .replace('label = "up"', "label = '<i>up</i>'")
    )
    texts = [Text(f"{EVIL} {text.text}", text.id, f"<u>{text.id}</u>") for text in some_texts(8)]
    write_store(folder / "labels.db", task, texts)
    with ReviewProcess(folder / "labels.db", task) as server:
        server.inside = server.visitor()
        yield server


def test_an_address_lets_in_once(server):
    path = "/" + server.addresses["ann"].partition("/?")[2].join(["?", ""])
    status, headers, body = Visitor(server.port).ask("GET", path)
    assert status == 403 and "set-cookie" not in headers and "was used before" in body


@pytest.mark.parametrize(
    "path", ["/", "/label", "/texts", "/agreement", "/disagreements", "/steer", "/label?id=t0", "/?token=", "/?token=x"]
)
def test_without_the_cookie_nothing_is_shown(server, path):
    status, _, body = Visitor(server.port).ask("GET", path)
    assert status == 403 and "text number" not in body


def test_a_cookie_that_was_not_given_out_is_none(server):
    name = server.inside.cookie.partition("=")[0]
    for cookie in (f"{name}=x", f"{name}=", "=", "a=b; c", f"other={server.inside.cookie.partition('=')[2]}"):
        assert Visitor(server.port).ask("GET", "/label", headers={"Cookie": cookie})[0] == 403


def test_the_cookie_is_for_this_server_alone(server):
    address = server.addresses["ann"]
    assert f"potstill_review_{server.port}=" in server.inside.cookie and server.inside.cookie.partition("=")[2] not in address


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "10.0.0.1", "", "localhost@evil.example"]
)
def test_another_host_is_refused_whatever_the_cookie(server, host):
    status, _, body = server.inside.ask("GET", "/label", headers={"Host": host})
    assert status in (400, 421) and "text number" not in body


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "https://127.0.0.1:{port}"},
        {"Origin": "http://localhost:{port}"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
    ids=str,
)
def test_a_page_of_another_origin_can_neither_read_nor_write(server, headers):
    headers = {name: value.format(port=server.port) for name, value in headers.items()}
    status, _, body = server.inside.ask("GET", "/label", headers=headers)
    assert status == 403 and "text number" not in body
    before = len(journal_rows(server.store))
    form = {"id": "t0", "entry": "e-foreign", "answer.": "down", "mode": "random"}
    origin = headers.get("Origin", f"http://127.0.0.1:{server.port}")
    assert server.inside.post("/label", form, **(headers | {"Origin": origin}))[0] == 403
    assert len(journal_rows(server.store)) == before


def test_a_form_that_does_not_say_where_it_comes_from_is_refused(server):
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    status, _, body = server.inside.ask("POST", "/label", "id=t0&entry=e&answer.=down", headers)
    assert status == 403 and "Origin" in body


def test_no_reply_allows_another_origin_or_lets_itself_be_framed(server):
    for path in ("/label", "/texts", "/nothing", "/static/review.js"):
        _, headers, _ = server.inside.ask("GET", path)
        assert "access-control-allow-origin" not in headers
        policy = headers["content-security-policy"]
        assert (
            policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'")
            and "unsafe" not in policy
        )
        assert "frame-ancestors 'none'" in policy and headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "path", ["/label", "/label?id=t1&reveal=1", "/texts", "/texts?q=%3Cscript%3E&label=%3Cb%3E", "/agreement", "/disagreements"]
)
def test_markup_in_a_text_a_target_or_a_label_is_shown_and_never_part_of_the_page(server, path):
    server.inside.post("/label", {"id": "t2", "entry": "e-markup", "answer.": "<i>up</i>", "mode": "search", "note": EVIL})
    body = server.inside.get(path)
    for part in ("<script>alert", "<img", "<u>", "<i>", "<b>", "onerror=alert(2)>"):
        assert part not in body


def test_a_form_that_is_too_large_is_refused_and_stores_nothing(server):
    before = len(journal_rows(server.store))
    form = {"id": "t0", "entry": "e-large", "answer.": "down", "note": "x" * 70_000}
    assert server.inside.post("/label", form)[0] == 413
    status, _, body = server.inside.post("/label", {**form, "note": "x" * 2001})
    assert status == 422 and "at most 2000" in body
    assert server.inside.post("/label", {**form, "note": "", **{f"f{i}": "" for i in range(500)}})[0] == 400
    assert (
        server.inside.ask(
            "POST", "/label", "{}", {"Content-Type": "application/json", "Origin": f"http://127.0.0.1:{server.port}"}
        )[0]
        == 415
    )
    assert (
        server.inside.ask(
            "POST",
            "/label",
            b"id=%ff",
            {"Content-Type": "application/x-www-form-urlencoded", "Origin": f"http://127.0.0.1:{server.port}"},
        )[0]
        == 400
    )
    assert len(journal_rows(server.store)) == before


@pytest.mark.parametrize(
    "name",
    [
        "../render.py",
        "..%2frender.py",
        "%2e%2e/render.py",
        "/etc/passwd",
        "review.css/../../render.py",
        "",
        "%00",
        "htmx.min.js%00",
    ],
)
def test_only_the_pages_own_files_are_given_out(server, name):
    status, _, body = server.inside.ask("GET", f"/static/{name}")
    assert status == 404 and "import" not in body and "root:" not in body


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ({"id": "nope"}, "no text with that id"),
        ({"id": "t0"}, "not one of these pages"),
        ({"id": "t0", "entry": "x" * 65}, "not one of these pages"),
        ({"id": "t0", "entry": "e1"}, "no answer was chosen"),
        ({"id": "t0", "entry": "e1", "answer.": "sideways"}, "is not an answer"),
        ({"id": "t0", "entry": "e1", "answer.other": "down"}, "no answer was chosen"),
    ],
    ids=str,
)
def test_a_form_that_answers_nothing_is_refused_with_the_reason(server, form, said):
    before = len(journal_rows(server.store))
    status, _, body = server.inside.post("/label", form)
    assert status in (404, 422) and said in body
    assert len(journal_rows(server.store)) == before


def test_methods_and_paths_that_do_not_exist_are_refused(server):
    assert server.inside.ask("GET", "/undo")[0] == 405
    assert server.inside.ask("GET", "/nothing")[0] == 404
    assert server.inside.ask("DELETE", "/label", headers={"Origin": f"http://127.0.0.1:{server.port}"})[0] == 405
    assert server.inside.ask("HEAD", "/label")[2] == ""
