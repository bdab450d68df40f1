"""Images at URLs, read through fsspec: OME-Zarr, Zarr arrays, and single files."""

from __future__ import annotations

import hashlib
import io
from functools import partial
from typing import Any, BinaryIO, cast

from zarr.storage import FsspecStore

from napari_sam.core.errors import InputError, NapariSamError
from napari_sam.io.volume import (
    PICTURE_SIGNATURES,
    TIFF_SIGNATURES,
    ZARR_FILES,
    Volume,
    unknown_format,
)

__all__ = ["metadata_digest", "open_remote"]

PACKAGES = {
    "http": "aiohttp",
    "https": "aiohttp",
    "s3": "s3fs",
    "s3a": "s3fs",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "abfs": "adlfs",
    "az": "adlfs",
    "sftp": "paramiko",
    "ssh": "paramiko",
}
"""What fsspec needs for each kind of URL."""
BLOCK_BYTES = 2**16
"""Read at least at a time from a file: small, because the pages of a TIFF lie far apart."""
FILE_STAMPS = (
    *("ETag", "etag", "Content-MD5", "md5Hash", "content_md5"),
    *("Last-Modified", "LastModified", "last_modified", "updated", "mtime", "created"),
)
"""What file systems call the digest or the time of a file."""


def open_remote(url: str, axes: str | None = None) -> Volume:
    """Open an image at a URL without reading its pixels.

    Parameters
    ----------
    url : str
        An OME-Zarr, a Zarr array, or a TIFF, PNG or JPEG file, in any storage that fsspec reads.
    axes : str, optional
        As for :func:`napari_sam.io.open_volume`.

    Returns
    -------
    Volume

    Raises
    ------
    InputError
        When a package for this kind of URL is missing, nothing can be reached there, or what is
        there is no image.
    """
    system, path = _connect(url)
    try:
        if _is_zarr(system, path):
            from napari_sam.io.ome_zarr import open_zarr

            return open_zarr(url, axes, FsspecStore.from_url(url.rstrip("/"), read_only=True))
        stream = _open_stream(system, path)
        try:
            return _open_file(url, stream, axes, partial(_file_stamp, url))
        except BaseException:
            stream.close()
            raise
    except NapariSamError:
        raise
    except Exception as error:  # each file system has errors of its own
        raise _unreachable(url, error) from error


def metadata_digest(url: str, nodes: list[str]) -> dict[str, Any]:
    """Tell one Zarr at a URL from another by what its metadata documents say.

    Parameters
    ----------
    url : str
    nodes : list of str
        Paths of its groups and arrays below the URL.

    Returns
    -------
    dict
        A digest of the documents; changed pixels do not change it.

    Raises
    ------
    InputError
        When they cannot be reached any more.
    """
    system, root = _connect(url)
    digest = hashlib.blake2b(digest_size=16)
    try:
        for node in nodes:
            for name in ZARR_FILES:
                document = _read_document(system, "/".join(filter(None, (root, node, name))))
                digest.update(f"{node}\0{name}\0{len(document or b'')}\0".encode())
                digest.update(document or b"")
    except Exception as error:
        raise _unreachable(url, error) from error
    return {"metadata": digest.hexdigest()}


def _connect(url: str) -> tuple[Any, str]:
    try:
        from fsspec.core import url_to_fs

        system, path = url_to_fs(url)
        return system, path.rstrip("/")
    except (ImportError, ValueError) as error:
        raise _unknown_protocol(url, error) from error
    except Exception as error:
        raise _unreachable(url, error) from error


def _is_zarr(system: Any, path: str) -> bool:
    refused: PermissionError | None = None
    for name in ZARR_FILES:
        try:
            if _read_document(system, f"{path}/{name}") is not None:
                return True
        except PermissionError as error:  # some storages answer so for what does not exist
            refused = error
    if refused is not None:
        system.info(path)  # raises unless it is a file that may be read
    return False


def _open_stream(system: Any, path: str) -> BinaryIO:
    stream = system.open(path, "rb", block_size=BLOCK_BYTES)
    # Zarr opens for reading only what cannot be written, and files in memory say that they can be.
    return cast(BinaryIO, io.BufferedReader(stream) if stream.writable() else stream)


def _read_document(system: Any, path: str) -> bytes | None:
    try:
        return bytes(system.cat_file(path))
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        return None


def _open_file(url: str, stream: BinaryIO, axes: str | None, identity: Any) -> Volume:
    signature = stream.read(4)
    stream.seek(0)
    if signature in TIFF_SIGNATURES:
        from napari_sam.io.tiff import open_tiff

        return open_tiff(url, axes, stream, identity)
    if signature.startswith(PICTURE_SIGNATURES):
        from napari_sam.io.image_file import open_image_file

        with stream:
            return open_image_file(url, axes, stream, identity)
    raise unknown_format(url, "The URL")


def _file_stamp(url: str) -> dict[str, Any]:
    """Return size of a file and what its storage says of digest and time."""
    system, path = _connect(url)
    try:
        entry = system.info(path)
    except Exception as error:
        raise _unreachable(url, error) from error
    stamps = {name: str(entry[name]) for name in FILE_STAMPS if entry.get(name) is not None}
    return {"bytes": entry.get("size"), **stamps}


def _unknown_protocol(url: str, error: Exception) -> InputError:
    package = PACKAGES.get(url.split("://")[0].split("::")[-1].lower())
    if package is None or isinstance(error, ValueError):
        cure = "Use http, https, s3, gs or another kind that fsspec reads, or a local copy"
    else:
        cure = f"Install what reads it: pip install {package}"
    return InputError(
        f"The URL {url} cannot be opened: {error}",
        rule="Each kind of URL is read by a package of its own, through fsspec",
        cure=cure,
    )


def _unreachable(url: str, error: Exception) -> InputError:
    if isinstance(error, FileNotFoundError):
        return InputError(
            f"The image {url} does not exist",
            rule="A URL is that of a Zarr or of one file; files of a series lie on this machine",
            cure="Check the spelling, or copy the files to this machine",
        )
    if isinstance(error, PermissionError) or "credentials" in str(error).lower():
        return InputError(
            f"The image {url} may not be read: {error or type(error).__name__}",
            rule="Storages that ask who reads take it from the settings of fsspec and its packages",
            cure="Sign in as the package for this storage asks for; for public data on S3 set "
            "the environment variable FSSPEC_S3_ANON=true",
        )
    return InputError(
        f"The image {url} cannot be reached: {error or type(error).__name__}",
        rule="The server must answer, and give parts of a file where the image is one file",
        cure="Check the address and the network, or copy the image to this machine",
    )
