"""Downloads published weights once, into a cache; downloads are resumed and verified."""

import contextlib
import hashlib
import http.client
import os
import shutil
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout
from tqdm import tqdm

from bifpn_jax.errors import UserError
from bifpn_jax.weights.published.published_file import PublishedWeights

FOLDER_VARIABLE = "BIFPN_JAX_WEIGHTS"
_TIMEOUT = 30.0  # seconds without a byte
_CHUNK = 1 << 18
_MAX_CONNECTIONS = 50


def default_folder() -> Path:
    """Return the cache folder: environment variable BIFPN_JAX_WEIGHTS, or one in the home."""
    folder = os.environ.get(FOLDER_VARIABLE) or "~/.cache/bifpn_jax/weights"
    return Path(folder).expanduser()


def fetch(
    published: PublishedWeights, cache_dir: str | Path | None = None, *, progress: bool = True
) -> Path:
    """Return the file of a catalog entry, downloading it if it is not in the cache.

    An interrupted download is resumed. A file gets its name only when it is complete and, if its
    SHA-256 is published, verified; one that was damaged since is downloaded again.

    Args:
        published: the entry.
        cache_dir: where to keep the file; `default_folder` by default.
        progress: whether to show a progress bar on a terminal.

    Raises:
        UserError: the file cannot be downloaded, or is not what was published; no file of its name
            is left behind.
    """
    folder = Path(cache_dir).expanduser() if cache_dir else default_folder()
    target = folder / published.file
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _lock(target, progress):
            if not (target.is_file() and _is_intact(target, published)):
                _download(published, target, progress)
    except OSError as error:
        raise UserError(
            f"{target}: cannot be written ({error.strerror or error}); name another folder with "
            f"the environment variable {FOLDER_VARIABLE}."
        ) from error
    return target


@contextlib.contextmanager
def _lock(target: Path, progress: bool) -> Iterator[None]:
    """Keep other processes from downloading the same file; the second finds it in the cache."""
    lock = FileLock(_beside(target, ".lock"), fallback_to_soft=False)
    try:
        held = lock.acquire(timeout=0)
    except Timeout:
        if progress:
            print(f"{target.name}: another process downloads it.", file=sys.stderr)
        held = lock.acquire()
    with held:
        yield


def _beside(target: Path, suffix: str) -> Path:
    return target.with_name(target.name + suffix)


def _is_intact(target: Path, published: PublishedWeights) -> bool:
    """Whether a file of the cache is what was published, or at least what was downloaded."""
    digest = _sha256(target)
    record = _beside(target, ".sha256")
    recorded = record.read_text().strip() if record.is_file() else ""
    return digest.startswith(published.sha256) and digest.startswith(recorded)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _download(published: PublishedWeights, target: Path, progress: bool) -> None:
    part = _beside(target, ".part")
    resumed = _size(part) > 0
    _complete(published, part, progress)
    digest = _sha256(part)
    if resumed and not digest.startswith(published.sha256):
        # The older part may be of another file.
        part.unlink()
        _complete(published, part, progress)
        digest = _sha256(part)
    if not digest.startswith(published.sha256):
        part.unlink()
        raise UserError(
            f"{published.url}: what came is not what was published (SHA-256 {digest[:16]}… instead "
            f"of {published.sha256[:16]}…); get the file from {published.source} by hand and name "
            "it as the weights."
        )
    _beside(target, ".sha256").write_text(f"{digest}\n")
    part.replace(target)


class _BrokenError(Exception):
    """A network error, in a few words."""


def _complete(published: PublishedWeights, part: Path, progress: bool) -> None:
    """Download the rest of `part`, over as many connections as it takes."""
    reason = "too many interruptions"
    with tqdm(
        desc=published.name,
        unit="B",
        unit_scale=True,
        disable=None if progress else True,
    ) as bar:
        for _ in range(_MAX_CONNECTIONS):
            before = _size(part)
            try:
                if _continue(published, part, bar):
                    return
                broken = "the connection broke"
            except _BrokenError as error:
                broken = str(error)
            if _size(part) == before:
                reason = broken
                break
    raise UserError(
        f"{published.url}: cannot be downloaded ({reason}); check the network and try again, or "
        "get the file by other means and name it as the weights."
    )


def _continue(published: PublishedWeights, part: Path, bar: tqdm) -> bool:
    """Append to `part` over one connection, and return whether it is complete."""
    size = _size(part)
    response = _open(published.url, size)
    with response:
        where = response.headers.get("Content-Range", "")
        if response.status == 416 and where.endswith(f"/{size}"):
            return True
        if response.status == 416 or (response.status == 206 and not _starts_at(where, size)):
            part.unlink(missing_ok=True)  # not a part of this file; next, request all of it
            return False
        if response.status != 206:
            size = 0
        total = None if response.length is None else size + response.length
        _check_space(published, part, response.length or 0)
        bar.total, bar.n = total, size
        with part.open("ab" if size else "wb") as file:
            while chunk := _read(response):
                file.write(chunk)
                bar.update(len(chunk))
                size += len(chunk)
    return total is None or size == total


def _open(url: str, start: int) -> http.client.HTTPResponse:
    """Return the response, from byte `start` if the server can; status 416 if nothing is left."""
    request = urllib.request.Request(url, headers={"User-Agent": "bifpn_jax"})
    if start:
        request.add_header("Range", f"bytes={start}-")
    try:
        return urllib.request.urlopen(request, timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == 416 and start:
            return error
        error.close()
        raise _BrokenError(f"the server says {error.code} {error.reason}") from error
    except (http.client.HTTPException, OSError) as error:
        raise _BrokenError(str(getattr(error, "reason", "") or error)) from error


def _read(response: http.client.HTTPResponse) -> bytes:
    try:
        return response.read(_CHUNK)
    except (http.client.HTTPException, OSError) as error:
        raise _BrokenError(str(error) or type(error).__name__) from error


def _check_space(published: PublishedWeights, part: Path, missing: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if missing > free:
        raise UserError(
            f"{part.parent}: {published.name} needs {missing / 1e6:,.0f} MB more and only "
            f"{free / 1e6:,.0f} MB are free; name another folder with the environment variable "
            f"{FOLDER_VARIABLE}."
        )


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _starts_at(content_range: str, start: int) -> bool:
    return content_range.startswith(f"bytes {start}-")
