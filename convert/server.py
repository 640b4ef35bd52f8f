"""A small HTTP server for a built site: this computer only, unless it is told otherwise."""

import hashlib
import os
import re
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from email.utils import formatdate
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

MIME_TYPES = {
    ".bin": "application/octet-stream",
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".jpeg": "image/jpeg",
    ".jpg": "image/jpeg",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".tflite": "application/octet-stream",
    ".txt": "text/plain; charset=utf-8",
    ".wasm": "application/wasm",
    ".webmanifest": "application/manifest+json",
    ".webp": "image/webp",
}

_POLICY_FILE = Path(__file__).parent / "web" / "content_security_policy.txt"


def content_security_policy() -> str:
    """What the pages may do; the build writes the same into them, for hosts without headers."""
    return "; ".join(_POLICY_FILE.read_text(encoding="utf-8").split("\n")).strip("; ")


# Sent with everything. The first two make the page cross-origin isolated, which WebAssembly
# threads need; a worker's script needs them as well.
HEADERS = {
    "Content-Security-Policy": content_security_policy(),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}

# The addresses below these folders carry a hash or a version: they never change.
_IMMUTABLE = re.compile(r"^/(assets|models|runtimes)/")
_CHUNK = 1 << 16


def resolve(site: Path, url_path: str) -> Path | None:
    """The file that an address stands for, or None.

    A folder stands for its `index.html`. Nothing outside `site` is reachable, neither by `..` nor
    by a symbolic link, and no file or folder whose name begins with a dot.

    Args:
        site: The served folder.
        url_path: The address's path, percent-encoded.
    """
    path = unquote(url_path, errors="replace")
    parts = [part for part in path.split("/") if part]
    if any(part.startswith(".") or "\\" in part or "\0" in part for part in parts):
        return None
    site = site.resolve()
    try:
        file = site.joinpath(*parts).resolve()
        if file.is_dir():
            file = (file / "index.html").resolve()
        inside = file.is_relative_to(site)
    except OSError:
        return None
    return file if inside and file.is_file() else None


class SiteHandler(BaseHTTPRequestHandler):
    """Answers GET and HEAD for the files of `server.site`."""

    protocol_version = "HTTP/1.1"
    server_version = "mobilevit_keras"
    sys_version = ""
    server: "SiteServer"

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def _answer(self, body: bool) -> None:
        url = urlsplit(self.path)
        file = resolve(self.server.site, url.path)
        if file is None:
            self.send_error(HTTPStatus.NOT_FOUND, "No such file")
            return
        if file.name == "index.html" and not url.path.endswith(("/", "index.html")):
            # Relative addresses in the page need the slash.
            location = "/" + url.path.strip("/") + "/"
            self._empty(HTTPStatus.MOVED_PERMANENTLY, {"Location": location})
            return
        stat = file.stat()
        version = f"{stat.st_mtime_ns:x}-{stat.st_size:x}".encode()
        etag = f'"{hashlib.sha256(version).hexdigest()[:20]}"'
        immutable = _IMMUTABLE.match(url.path)
        headers = {
            "ETag": etag,
            "Cache-Control": "public, max-age=31536000, immutable" if immutable else "no-cache",
        }
        if self.headers.get("If-None-Match") == etag:
            self._empty(HTTPStatus.NOT_MODIFIED, headers)
            return
        mime = MIME_TYPES.get(file.suffix.lower(), "application/octet-stream")
        headers |= {
            "Content-Type": mime,
            "Content-Length": str(stat.st_size),
            "Last-Modified": formatdate(stat.st_mtime, usegmt=True),
        }
        with open(file, "rb") as source:
            self.send_response(HTTPStatus.OK)
            self._send_headers(headers)
            if body:
                while chunk := source.read(_CHUNK):
                    self.wfile.write(chunk)

    def _empty(self, status: HTTPStatus, headers: dict[str, str]) -> None:
        self.send_response(status)
        self._send_headers({**headers, "Content-Length": "0"})

    def _send_headers(self, headers: dict[str, str]) -> None:
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def end_headers(self) -> None:
        for name, value in HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Keeps the terminal for what a person needs."""


class SiteServer(ThreadingHTTPServer):
    """Serves one folder.

    Args:
        site: The folder.
        host: Address to listen on.
        port: 0 takes a free one.
    """

    daemon_threads = True

    def __init__(self, site: Path, host: str, port: int) -> None:
        self.site = Path(site)
        self._connections: set[socket.socket] = set()
        super().__init__((host, port), SiteHandler)

    def process_request(self, request: socket.socket, client_address: object) -> None:
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: socket.socket) -> None:
        self._connections.discard(request)
        super().shutdown_request(request)

    def server_close(self) -> None:
        """Ends the connections as well, which browsers keep open and would be answered on."""
        super().server_close()
        for connection in list(self._connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: object, client_address: object) -> None:
        """A browser that closes a connection early is no error of this server."""

    @property
    def url(self) -> str:
        """Where a browser on this computer finds the site."""
        host, port = self.server_address[:2]
        return f"http://{'127.0.0.1' if host == '0.0.0.0' else host}:{port}/"

    @property
    def other_urls(self) -> list[str]:
        """Where other devices find the site; none where it listens on one address only."""
        host, port = self.server_address[:2]
        if host != "0.0.0.0":
            return []
        return [f"http://{address}:{port}/" for address in own_addresses()]


def own_addresses() -> list[str]:
    """This computer's IPv4 addresses in its networks, the one that reaches furthest first."""
    found: list[str] = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            # Chooses a network without sending anything; the address belongs to documentation.
            probe.connect(("192.0.2.1", 9))
            found.append(probe.getsockname()[0])
        except OSError:
            pass
    try:
        found += socket.gethostbyname_ex(socket.gethostname())[2]
    except OSError:
        pass
    return [address for address in dict.fromkeys(found) if not address.startswith("127.")]


def check_port(port: int) -> None:
    """Refuses what is no port number."""
    if not 0 <= port <= 65535:
        raise ValueError(f"A port must be 0 to 65535. Received: {port}.")


def make_server(site: Path, host: str, port: int) -> SiteServer:
    """Binds a server without starting it.

    Raises:
        FileNotFoundError: If `site` holds no `index.html`.
        ValueError: If there is no such port.
        OSError: If the address is not free; the message names it.
    """
    check_port(port)
    if not (Path(site) / "index.html").is_file():
        raise FileNotFoundError(f"A site must have an index.html. Received: {site}.")
    try:
        return SiteServer(Path(site), host, port)
    except OSError as error:
        raise OSError(
            f"The address must be free and this computer's. Received: host={host}, port={port} "
            f"({os.strerror(error.errno) if error.errno and error.errno > 0 else error})."
        ) from error


@contextmanager
def serving(site: Path, host: str = "127.0.0.1", port: int = 0) -> Iterator[str]:
    """Serves a site from a thread for as long as the block lasts; yields its address."""
    with make_server(site, host, port) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server.url
        finally:
            server.shutdown()
            thread.join()


def serve(site: Path, host: str, port: int) -> None:
    """Serves a site until SIGINT or SIGTERM, and says where.

    Args:
        site: A folder made by `convert.site.build_site`.
        host: Address to listen on; "127.0.0.1" keeps it on this computer.
        port: Port; 0 takes a free one.

    Raises:
        ValueError: If there is no such port.
        OSError: If the site does not exist or the address is not free.
    """
    with make_server(site, host, port) as server:
        # `kill` and containers send this one; without a handler the callers' folders would stay.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        print(f"Serving {site} at {server.url} (Ctrl+C stops it).", flush=True)
        if server.other_urls:
            print(
                f"Other devices in the network find it at {' or '.join(server.other_urls)}\n"
                "(without camera and offline use, for which browsers want https).",
                flush=True,
            )
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print("Stopped.")
