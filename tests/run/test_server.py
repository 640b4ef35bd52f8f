"""The local server: what it serves, with which headers, and what it refuses."""

import http.client
import socket

import pytest

from convert.server import HEADERS, make_server, own_addresses, resolve, serving


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    root = tmp_path_factory.mktemp("server")
    folder = root / "site"
    (root / "secret.txt").write_text("secret")
    for name in (
        "index.html",
        "benchmark/index.html",
        "models.json",
        "manifest.webmanifest",
        "assets/a-1.js",
        "runtimes/1/a.wasm",
        "runtimes/1/a.mjs",
        "models/m/model.tflite",
        "models/m/ä b.txt",
        "empty/file.txt",
        ".hidden",
    ):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    (folder / "link.txt").symlink_to(root / "secret.txt")
    return folder


@pytest.fixture(scope="module")
def address(site):
    with serving(site) as url:
        yield url.removeprefix("http://").rstrip("/")


def get(address, path, method="GET", headers=None):
    """Sends the path exactly as written, which no higher client does."""
    connection = http.client.HTTPConnection(address, timeout=10)
    try:
        connection.putrequest(method, path, skip_accept_encoding=True)
        for name, value in (headers or {}).items():
            connection.putheader(name, value)
        connection.endheaders()
        response = connection.getresponse()
        return response.status, dict(response.getheaders()), response.read().decode()
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("path", "mime"),
    [
        ("/", "text/html; charset=utf-8"),
        ("/benchmark/", "text/html; charset=utf-8"),
        ("/models.json", "application/json; charset=utf-8"),
        ("/manifest.webmanifest", "application/manifest+json"),
        ("/assets/a-1.js", "text/javascript; charset=utf-8"),
        ("/runtimes/1/a.wasm", "application/wasm"),
        ("/runtimes/1/a.mjs", "text/javascript; charset=utf-8"),
        ("/models/m/model.tflite", "application/octet-stream"),
        ("/models/m/%C3%A4%20b.txt", "text/plain; charset=utf-8"),
    ],
)
def test_types_and_isolation(address, path, mime):
    status, headers, body = get(address, path)
    assert (status, headers["Content-Type"]) == (200, mime)
    assert int(headers["Content-Length"]) == len(body.encode())
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert headers["Cross-Origin-Embedder-Policy"] == "require-corp"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Content-Security-Policy"] == HEADERS["Content-Security-Policy"]


def test_the_policy_keeps_images_on_the_device():
    rules = dict(rule.split(" ", 1) for rule in HEADERS["Content-Security-Policy"].split("; "))
    assert rules["default-src"] == "'none'"
    # Neither a connection, nor an image's address, nor a form leads to another host.
    for sources in rules.values():
        assert set(sources.split()) <= {"'none'", "'self'", "blob:", "data:", "'wasm-unsafe-eval'"}
    assert rules["form-action"] == "'none'"


@pytest.mark.parametrize(
    "path",
    [
        "/../secret.txt",
        "/%2e%2e/secret.txt",
        "/assets/../../secret.txt",
        "/..%2fsecret.txt",
        "/..%5csecret.txt",
        "//secret.txt",
        "/link.txt",
        "/.hidden",
        "/empty",
        "/empty/",
        "/assets/",
        "/no-such-file",
        "/index.html%00.png",
        "/index.html/x",
        "/" + 5000 * "a",
    ],
)
def test_refuses_escapes_listings_and_hidden_files(address, path):
    status, headers, body = get(address, path)
    assert status == 404
    assert "secret" not in body and "file.txt" not in body
    assert headers["Cross-Origin-Embedder-Policy"] == "require-corp"


def test_caching(address):
    for path in ("/assets/a-1.js", "/runtimes/1/a.wasm", "/models/m/model.tflite"):
        assert "immutable" in get(address, path)[1]["Cache-Control"]
    _, headers, _ = get(address, "/models.json")
    assert headers["Cache-Control"] == "no-cache"
    status, again, body = get(address, "/models.json", headers={"If-None-Match": headers["ETag"]})
    assert (status, body, again["ETag"]) == (304, "", headers["ETag"])
    assert get(address, "/models.json", headers={"If-None-Match": '"other"'})[0] == 200


def test_head_and_other_methods(address):
    status, headers, body = get(address, "/models.json", method="HEAD")
    assert (status, body, headers["Content-Length"]) == (200, "", str(len("models.json")))
    assert get(address, "/models.json", method="POST")[0] == 501


def test_a_folder_gets_its_slash(address):
    status, headers, _ = get(address, "/benchmark")
    assert (status, headers["Location"]) == (301, "/benchmark/")


def test_no_open_redirect(address):
    status, headers, _ = get(address, "//benchmark")
    assert (status, headers["Location"]) == (301, "/benchmark/")


def test_listens_on_this_computer_only(site):
    with make_server(site, "127.0.0.1", 0) as server:
        assert server.server_address[0] == "127.0.0.1"
        assert server.url == f"http://127.0.0.1:{server.server_address[1]}/"


def test_a_server_that_has_ended_answers_nobody(site):
    """Neither on the connections that browsers keep open."""
    with serving(site) as url:
        connection = http.client.HTTPConnection(url.split("/")[2], timeout=10)
        connection.request("GET", "/models.json")
        assert connection.getresponse().read()
        kept = connection.sock
        assert kept is not None
    kept.sendall(b"GET /models.json HTTP/1.1\r\nHost: a\r\n\r\n")
    try:
        assert kept.recv(100) == b""
    except ConnectionError:
        pass
    connection.close()


def test_says_which_address_is_taken(site):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=f"Received: host=127.0.0.1, port={port}"):
            make_server(site, "127.0.0.1", port)


def test_other_devices_are_told_an_address(site):
    with make_server(site, "0.0.0.0", 0) as server:
        port = server.server_address[1]
        assert server.url == f"http://127.0.0.1:{port}/"
        assert server.other_urls == [f"http://{address}:{port}/" for address in own_addresses()]
    assert not any(address.startswith("127.") for address in own_addresses())
    with make_server(site, "127.0.0.1", 0) as server:
        assert server.other_urls == []


@pytest.mark.parametrize("port", [-1, 65536, 80000])
def test_there_is_no_such_port(site, port):
    with pytest.raises(ValueError, match=f"0 to 65535. Received: {port}"):
        make_server(site, "127.0.0.1", port)


def test_needs_a_site(tmp_path):
    with pytest.raises(FileNotFoundError, match=f"index.html. Received: {tmp_path}"):
        make_server(tmp_path, "127.0.0.1", 0)


def test_resolve_follows_no_link_out(site):
    assert resolve(site, "/index.html") == (site / "index.html").resolve()
    assert resolve(site, "/link.txt") is None
