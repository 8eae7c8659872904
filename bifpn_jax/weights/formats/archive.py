"""Unpacks a TensorFlow checkpoint from the .tar.gz archive in which it is published.

Archives are not trusted: only the checkpoint's own files are written, under their base names, and
never more bytes than a published one could have.
"""

import gzip
import re
import tarfile
import zlib
from pathlib import Path
from typing import IO

from bifpn_jax.errors import UserError

# The largest published one, D7x, is less than 1 GB unpacked, and weights hardly compress.
MAX_BYTES = 4_000_000_000
_MAX_RATIO = 100
_ALWAYS_FINE = 16_000_000
_MAX_READ = 1 << 20
_MAX_ENTRIES = 1000

_WANTED = re.compile(r"checkpoint|[^/]+\.index|[^/]+\.data-\d+-of-\d+")


def unpack_checkpoint(path: Path, folder: Path) -> None:
    """Write a checkpoint's files, found anywhere in the archive at `path`, into `folder`.

    Links, other files and folders in the archive are skipped.

    Raises:
        UserError: it is not such an archive, is damaged or far too large, or does not contain
            exactly one checkpoint.
    """
    try:
        limit = min(MAX_BYTES, _ALWAYS_FINE + _MAX_RATIO * path.stat().st_size)
        with (
            gzip.open(path) as stream,
            tarfile.open(fileobj=_ShortReads(stream), mode="r:") as archive,
        ):
            # Python before 3.11.4 has no filters.
            archive.extraction_filter = getattr(tarfile, "data_filter", lambda member, _: member)
            for number, member in enumerate(archive):
                if number > _MAX_ENTRIES:
                    raise _RefusedError("it has absurdly many entries")
                if not 0 <= member.size <= limit - member.offset_data:
                    raise _RefusedError(f"it has absurdly large contents ({member.size:,} bytes)")
                _unpack(archive, member, folder)
    except _RefusedError as error:
        raise UserError(f"{path}: {error}; get the archive from where it is published.") from error
    except (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error, ValueError) as error:
        raise UserError(
            f"{path}: not a .tar.gz archive, or damaged ({error}); get it again."
        ) from error
    except OSError as error:
        raise UserError(
            f"{path}: cannot be unpacked into {folder} ({error.strerror or error}); unpack it by "
            "hand and name the folder."
        ) from error
    if not any(folder.glob("*.index")):
        raise UserError(f"{path}: holds no TensorFlow checkpoint (no *.index); name another file.")


class _RefusedError(Exception):
    """The archive contains something that no published one does."""


class _ShortReads:
    """A file without long reads: tarfile would read a header of any claimed length into memory."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int) -> bytes:
        if not 0 <= size <= _MAX_READ:
            raise _RefusedError("a header in it is absurdly long")
        return self._file.read(size)


def _unpack(archive: tarfile.TarFile, member: tarfile.TarInfo, folder: Path) -> None:
    name = member.name.rpartition("/")[2]
    if not member.isreg() or member.issparse() or not _WANTED.fullmatch(name):
        return
    if (folder / name).exists():
        raise _RefusedError(f"two files in it are called {name}")
    archive.extract(member.replace(name=name, deep=False), folder, set_attrs=False)
