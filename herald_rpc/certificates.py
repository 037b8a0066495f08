"""Certificates, keys and CAs from files, read again when the files change."""

import ssl
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from weakref import WeakSet

import structlog

logger = structlog.get_logger(__name__)


class CertificateError(Exception):
    """The files can't be read, are not PEM, or the key is not that of the certificate."""


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """The files in PEM. A certificate file has the whole chain, the own certificate first."""

    certificate: Path | None = None
    key: Path | None = None
    ca: Path | None = None


@dataclass(frozen=True, slots=True)
class Certificates:
    """The content of the files, in PEM; None where there is no file."""

    chain: bytes | None
    key: bytes | None = field(repr=False)
    ca: bytes | None


class CertificateWatch:
    """The last good content of the files. May be used by several threads.

    While a new certificate is in place and its key is not yet, the old pair is served, because the
    new certificate does not fit the old key.
    """

    def __init__(self, files: CertificateFiles) -> None:
        """Raises `CertificateError`, because at the start there is no good content yet."""
        self._files = files
        self._lock = Lock()
        self._stamp = _stamp(files)
        self.certificates = _checked(files)
        self.generation = 0
        """Counts the changes of `certificates`."""
        _watches.add(self)

    def refresh(self, *, even_unchanged: bool = False) -> None:
        """Reads files that have changed. Keeps the last good content if the new one is bad."""
        with self._lock:
            # taken before they are read: a change in between is seen the next time
            stamp = _stamp(self._files)
            if stamp == self._stamp and not even_unchanged:
                return
            self._stamp = stamp
            try:
                found = _checked(self._files)
            except CertificateError as error:
                logger.warning("bad certificates, the last good ones are kept", error=str(error))
                return
            if found != self.certificates:
                self.certificates = found
                self.generation += 1
                logger.info("new certificates", files=self._named())
            elif even_unchanged:
                logger.info("the certificates are unchanged", files=self._named())

    def _named(self) -> list[str]:
        return [str(file) for file in _given(self._files)]


_watches: "WeakSet[CertificateWatch]" = WeakSet()


def reload_all() -> None:
    """Reads all files of this process again, as after SIGHUP."""
    for watch in list(_watches):
        watch.refresh(even_unchanged=True)


def _given(files: CertificateFiles) -> list[Path]:
    return [file for file in (files.certificate, files.key, files.ca) if file]


def _stamp(files: CertificateFiles) -> tuple[tuple[int, int, int] | None, ...]:
    return tuple(map(_file_stamp, _given(files)))


def _file_stamp(file: Path) -> tuple[int, int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size


def _checked(files: CertificateFiles) -> Certificates:
    certificates = _read(files)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        if files.certificate and files.key:
            # an empty password: a key that needs one is refused, and nobody is asked for it
            context.load_cert_chain(files.certificate, files.key, password="")
    except (OSError, ValueError) as error:
        raise CertificateError(f"{files.certificate} and {files.key}: {error}") from None
    try:
        if certificates.ca is not None:
            context.load_verify_locations(cadata=certificates.ca.decode("ascii"))
    except (OSError, ValueError) as error:
        raise CertificateError(f"{files.ca}: {error}") from None
    if _read(files) != certificates:
        raise CertificateError(f"{files.certificate} is being replaced")
    return certificates


def _read(files: CertificateFiles) -> Certificates:
    try:
        chain, key, ca = (
            file.read_bytes() if file else None for file in (files.certificate, files.key, files.ca)
        )
    except OSError as error:
        raise CertificateError(str(error)) from None
    return Certificates(chain, key, ca)
