"""Downloads against a small server that misbehaves in the ways of real ones."""

import hashlib
import re
import shutil
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from bifpn_jax.errors import UserError
from bifpn_jax.weights.published import download
from bifpn_jax.weights.published.download import default_folder, fetch
from bifpn_jax.weights.published.published_file import PublishedWeights

CONTENT = np.random.default_rng(0).bytes(700_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        server = self.server
        asked = self.headers.get("Range")
        server.requests.append(asked)
        start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1]) if asked and server.ranges else 0
        status = server.status or (206 if start else 200)
        body = server.content[start:]
        if status in (200, 206) and start and not body:
            status = 416
        self.send_response(status)
        if status == 206:
            first = start + server.shift
            whole = len(server.content)
            self.send_header("Content-Range", f"bytes {first}-{whole - 1}/{whole}")
        if status == 416:
            self.send_header("Content-Range", f"bytes */{len(server.content)}")
        if status not in (200, 206):
            body = b""
        if server.chunked:
            self.send_header("Transfer-Encoding", "chunked")
            body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
        else:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: server.cut])
        if server.cut is not None and len(body) > server.cut:
            self.close_connection = True

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.content, server.requests, server.status, server.cut = CONTENT, [], 0, None
        server.ranges, server.shift, server.chunked = True, 0, False
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def entry(server):
    return PublishedWeights(
        name="weights",
        kind="effdet",
        model="d0",
        settings={},
        url=f"http://127.0.0.1:{server.server_port}/some/weights-01.pth",
        sha256=SHA256[:8],
        source="http://127.0.0.1/page",
    )


def refused(entry, folder):
    with pytest.raises(UserError) as error:
        fetch(entry, folder, progress=False)
    message = str(error.value)
    assert "\n" not in message
    assert not (folder / "weights.pth").exists()
    return message


@pytest.mark.parametrize("sha256", [SHA256, SHA256[:8], ""])
def test_downloaded_once(server, entry, tmp_path, sha256):
    entry = entry._replace(sha256=sha256)
    for _ in range(2):
        path = fetch(entry, tmp_path / "new" / "folder", progress=False)
        assert path == tmp_path / "new" / "folder" / "weights.pth"
        assert path.read_bytes() == CONTENT
    assert server.requests == [None]


def test_chunked_answers(server, entry, tmp_path):
    server.chunked = True
    assert fetch(entry, tmp_path, progress=False).read_bytes() == CONTENT


def test_interruptions_are_resumed(server, entry, tmp_path):
    server.cut = 300_000
    assert fetch(entry, tmp_path, progress=False).read_bytes() == CONTENT
    assert server.requests == [None, "bytes=300000-", "bytes=600000-"]


def test_what_an_earlier_run_left_is_kept(server, entry, tmp_path):
    (tmp_path / "weights.pth.part").write_bytes(CONTENT[:5000])
    assert fetch(entry, tmp_path, progress=False).read_bytes() == CONTENT
    assert server.requests == ["bytes=5000-"]
    assert not (tmp_path / "weights.pth.part").exists()


def test_all_of_it_was_there_already(server, entry, tmp_path):
    (tmp_path / "weights.pth.part").write_bytes(CONTENT)
    assert fetch(entry, tmp_path, progress=False).read_bytes() == CONTENT


@pytest.mark.parametrize("left", [b"another file", b"x" * 800_000])
def test_pieces_of_another_file_are_thrown_away(server, entry, tmp_path, left):
    (tmp_path / "weights.pth.part").write_bytes(left)
    assert fetch(entry, tmp_path, progress=False).read_bytes() == CONTENT


def test_a_server_without_ranges_starts_again(server, entry, tmp_path):
    server.ranges = False
    (tmp_path / "weights.pth.part").write_bytes(b"some" * 1000)
    assert fetch(entry, tmp_path, progress=False).read_bytes() == CONTENT


def test_a_server_that_sends_another_range(server, entry, tmp_path):
    server.shift = 7
    (tmp_path / "weights.pth.part").write_bytes(CONTENT[:5000])
    assert fetch(entry, tmp_path, progress=False).read_bytes() == CONTENT
    assert server.requests == ["bytes=5000-", None]


def test_a_connection_that_always_breaks(server, entry, tmp_path):
    server.cut = 0
    assert "cannot be downloaded (" in refused(entry, tmp_path)
    assert len(server.requests) == 1
    server.cut, server.requests = 1000, []
    assert "too many interruptions" in refused(entry, tmp_path)
    assert (tmp_path / "weights.pth.part").stat().st_size == 1000 * len(server.requests)


def test_another_file_than_published(server, entry, tmp_path):
    server.content = CONTENT[:-1] + b"\0"
    message = refused(entry, tmp_path)
    assert f"instead of {SHA256[:8]}" in message
    assert entry.source in message
    assert not (tmp_path / "weights.pth.part").exists()


@pytest.mark.parametrize("sha256", [SHA256[:8], ""])
def test_a_spoiled_cache_is_fetched_anew(server, entry, tmp_path, sha256):
    entry = entry._replace(sha256=sha256)
    path = fetch(entry, tmp_path, progress=False)
    path.write_bytes(CONTENT[:1000])
    assert fetch(entry, tmp_path, progress=False).read_bytes() == CONTENT
    assert len(server.requests) == 2


def test_a_file_put_into_the_cache_by_hand(server, entry, tmp_path):
    (tmp_path / "weights.pth").write_bytes(CONTENT)
    assert fetch(entry, tmp_path, progress=False) == tmp_path / "weights.pth"
    assert server.requests == []


@pytest.mark.parametrize("status", [404, 403, 500])
def test_errors_of_the_server(server, entry, tmp_path, status):
    server.status = status
    message = refused(entry, tmp_path)
    assert f"the server says {status}" in message
    assert entry.url in message


def test_no_network(entry, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/x.pth"
    message = refused(entry._replace(url=url), tmp_path)
    assert "Connection refused" in message
    assert "check the network" in message
    message = refused(entry._replace(url="http://no.such.host.invalid/x.pth"), tmp_path)
    assert "cannot be downloaded" in message


def test_a_server_that_says_nothing(server, entry, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "_TIMEOUT", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/x.pth"
        assert "timed out" in refused(entry._replace(url=url), tmp_path)


def test_no_space(server, entry, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    assert "needs 1 MB more and only 0 MB are free" in refused(entry, tmp_path)


def test_a_folder_that_cannot_be_made(entry, tmp_path):
    (tmp_path / "file").touch()
    message = refused(entry, tmp_path / "file")
    assert "cannot be written" in message
    assert "BIFPN_JAX_WEIGHTS" in message


def test_the_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("BIFPN_JAX_WEIGHTS", str(tmp_path))
    assert default_folder() == tmp_path
    monkeypatch.delenv("BIFPN_JAX_WEIGHTS")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_folder() == tmp_path / ".cache" / "bifpn_jax" / "weights"


def test_two_at_once_download_once(server, entry, tmp_path):
    paths = []
    threads = [
        threading.Thread(target=lambda: paths.append(fetch(entry, tmp_path, progress=False)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [path.read_bytes() for path in paths] == [CONTENT] * 4
    assert server.requests == [None]
