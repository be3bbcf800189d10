"""The web server: the page as it is, offers that are wrong, strangers kept out, ports, certificates."""

import asyncio
import errno
import json
import re
import socket
import ssl

import pytest
from aiohttp.test_utils import TestClient, TestServer

from livetoon.errors import ModelError, UsageError
from streamer import server, tls
from streamer.session import Transport
from streamer.visitors import Visitors
from tests.streamer.visiting import Inverting, Settings, Visitor

ABOUT = {"styles": {"ink": ["young-women", "kids"]}, "max_faces": 4, "defaults": {"group": "auto"}}


def asked(scene, most: int = 1):
    """What `scene(client)` returns against a server with `most` places."""

    async def run():
        visitors = Visitors(Inverting, Settings(), ABOUT["styles"], Transport(), most)
        app = server.application(visitors, ABOUT, frozenset({"localhost"}))
        async with TestClient(TestServer(app, host="localhost")) as client:
            try:
                return await scene(client)
            finally:
                await visitors.close()

    return asyncio.run(asyncio.wait_for(run(), 20))


async def fetched(client, path, **options):
    async with client.get(path, **options) as response:
        return response.status, response.headers, await response.text()


async def posted(client, **options):
    async with client.post("/offer", **options) as response:
        return response.status, await response.json()


def page_texts() -> dict[str, str]:
    return {path: content.decode() for path, content, _ in server.page_files()}


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "text/html"),
        ("/index.html", "text/html"),
        ("/style.css", "text/css"),
        ("/app.js", "text/javascript"),
        ("/icon.svg", "image/svg+xml"),
        ("/about", "application/json"),
    ],
)
def test_every_file_has_its_type_and_the_rules_for_the_browser(path, kind):
    status, headers, _ = asked(lambda client: fetched(client, path))
    assert status == 200
    assert headers["Content-Type"].split(";")[0] == kind
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"


def test_the_page_asks_for_nothing_outside_and_holds_no_inline_code():
    texts = page_texts()
    for path, text in texts.items():
        for address in re.findall(r"https?://[^\s\"'`)]+", text):
            assert address.startswith(("http://www.w3.org/", "http://localhost")), (path, address)
    html = texts["/"]
    assert not re.search(r"<script(?![^>]*\bsrc=)", html)
    assert not re.search(r"\s(style|on\w+)=", html)
    assert "<style" not in html


def test_every_file_that_the_page_names_is_there():
    texts = page_texts()
    named = set(re.findall(r'(?:src|href)="([^"#][^"]*)"', texts["/"]))
    for text in texts.values():
        named |= {name.removeprefix("./") for name in re.findall(r'from "(\./[^"]+)"', text)}
    assert named and {f"/{name}" for name in named} <= set(texts)


def test_every_control_of_the_page_has_a_name():
    html = page_texts()["/"]
    labels = set(re.findall(r'<label[^>]* for="([^"]+)"', html))
    for tag in re.findall(r"<(?:input|select)[^>]*>", html):
        name = re.search(r'id="([^"]+)"', tag)
        wrapped = re.search(rf"<label[^>]*>\s*{re.escape(tag)}", html)
        assert wrapped or (name and name.group(1) in labels), tag


def test_about_says_what_the_page_must_know():
    status, _, text = asked(lambda client: fetched(client, "/about"))
    assert status == 200 and json.loads(text) == ABOUT


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ({"data": b"not json", "headers": {"Content-Type": "application/json"}}, "not JSON"),
        ({"data": b"\xff\xfe", "headers": {"Content-Type": "application/json"}}, "not JSON"),
        ({"data": b"{}", "headers": {"Content-Type": "application/json; charset=none"}}, "not JSON"),
        ({"data": b"[" * 5000, "headers": {"Content-Type": "application/json"}}, "not JSON"),
        ({"data": b"{}", "headers": {"Content-Type": "text/plain"}}, "application/json"),
        ({"json": []}, '"type": "offer"'),
        ({"json": {"type": "offer"}}, '"type": "offer"'),
        ({"json": {"type": "answer", "sdp": "v=0"}}, '"type": "offer"'),
        ({"json": {"type": "offer", "sdp": 7}}, '"type": "offer"'),
        ({"json": {"type": "offer", "sdp": ""}}, "not a session description"),
        ({"json": {"type": "offer", "sdp": "v=0\r\nm=audio 9 x\r\n"}}, "one video and one data channel"),
    ],
)
def test_a_wrong_offer_gets_a_sentence(body, sentence):
    status, answer = asked(lambda client: posted(client, **body))
    assert status == 400
    assert sentence in answer["error"]


def test_an_endless_offer_is_not_read():
    status, answer = asked(lambda client: posted(client, json={"type": "offer", "sdp": "v=0" + "x" * 100_000}))
    assert status == 413 and answer["error"]


def test_the_second_visitor_gets_a_sentence():
    async def scene(client):
        first, second = Visitor(), Visitor()
        answers = [await posted(client, json={"type": "offer", "sdp": await one.offer()}) for one in (first, second)]
        await first.close()
        await second.close()
        return answers

    (came, answer), (full, refusal) = asked(scene)
    assert came == 200 and answer["type"] == "answer" and answer["sdp"].startswith("v=0")
    assert full == 503 and refusal["error"].startswith("The one place is taken.")


@pytest.mark.parametrize(("path", "status"), [("/secret", 404), ("/../pyproject.toml", 404), ("/offer", 405)])
def test_what_is_not_there_is_refused_in_a_sentence(path, status):
    got, headers, text = asked(lambda client: fetched(client, path))
    assert got == status and json.loads(text)["error"]
    assert "Content-Security-Policy" in headers


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example:8080", "", "[::1", "evil.example:80:80"])
def test_a_foreign_name_gets_nothing(host):
    status, _, text = asked(lambda client: fetched(client, "/", headers={"Host": host}))
    assert status in (400, 403) and "<html" not in text


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8080", "127.0.0.1:8080", "[::1]:8080", "192.168.1.7"])
def test_this_machines_names_and_addresses_are_let_in(host):
    status, _, _ = asked(lambda client: fetched(client, "/", headers={"Host": host}))
    assert status == 200


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost:1", "http://[::1", "nonsense"])
def test_another_sites_page_may_not_send_an_offer(origin):
    body = {"json": {"type": "offer", "sdp": "v=0"}, "headers": {"Origin": origin}}
    status, answer = asked(lambda client: posted(client, **body))
    assert status == 403 and "Another site's page" in answer["error"]


def test_a_used_port_is_named_with_a_way_out():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(UsageError, match=rf"Port {port} is used by another program.*--port {port + 1}"):
            server.listen("127.0.0.1", port)


@pytest.mark.parametrize(("host", "port"), [("no.such.host.invalid", 8080), ("192.0.2.77", 0), ("a..b", 0)])
def test_an_address_that_is_not_here_is_refused(host, port):
    with pytest.raises(UsageError, match=rf"--host {host}"):
        server.listen(host, port)


def test_a_name_without_any_address_of_this_machine_is_refused(monkeypatch):
    foreign = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (f"192.0.2.{last}", 0)) for last in (7, 8)]
    monkeypatch.setattr(server.socket, "getaddrinfo", lambda *_, **__: foreign)
    with pytest.raises(UsageError, match="none of its addresses is one of this machine"):
        server.listen("elsewhere.example.org", 8080)


def test_what_breaks_inside_the_server_is_a_sentence_for_the_page():
    def fails():
        raise ModelError("faces/models/face_landmark.tflite: is not the file that was shipped")

    async def ask():
        visitors = Visitors(fails, Settings(), {"ink": []}, Transport(), 1)
        app = server.application(visitors, ABOUT, frozenset({"localhost"}))
        async with TestClient(TestServer(app)) as client:
            visitor = Visitor()
            response = await client.post("/offer", json={"type": "offer", "sdp": await visitor.offer()})
            await visitor.close()
            return response.status, await response.json(), response.headers

    status, body, headers = asyncio.run(ask())
    assert status == 500 and "face_landmark.tflite" in body["error"]
    assert "Content-Security-Policy" in headers


def test_port_zero_takes_the_same_free_port_on_every_address():
    sockets = server.listen("localhost", 0)
    ports = {made.getsockname()[1] for made in sockets}
    for made in sockets:
        made.close()
    assert len(ports) == 1 and ports != {0}


def test_a_port_that_needs_rights_is_explained():
    refused = OSError(errno.EACCES, "Permission denied")
    assert "above 1023" in server._why_not(refused, "localhost", 80)


def test_a_self_signed_certificate_serves_https():
    names = frozenset({"localhost"})

    async def scene():
        app = server.application(Visitors(Inverting, Settings(), {"ink": []}, Transport(), 1), ABOUT, names)
        made = TestServer(app, host="localhost", scheme="https")
        await made.start_server(ssl=tls.self_signed(names))
        trusting = ssl.create_default_context()
        trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
        async with TestClient(made) as client, client.get("/about", ssl=trusting) as response:
            return response.status

    assert asyncio.run(scene()) == 200


def test_certificates_that_cannot_be_used_are_refused(tmp_path):
    with pytest.raises(UsageError, match=r"missing\.pem does not exist"):
        tls.context_of(tmp_path / "missing.pem", None)
    broken = tmp_path / "broken.pem"
    broken.write_text("-----BEGIN CERTIFICATE-----\nnonsense\n")
    with pytest.raises(UsageError, match="not a certificate with its key"):
        tls.context_of(broken, None)
