"""CAs and certificates of tests, as files."""

import os
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme

from herald_rpc.certificates import CertificateFiles
from tests.harness.canaries import canaries


@dataclass(frozen=True)
class Authority:
    """A CA that issues certificates into a folder."""

    folder: Path
    authority: trustme.CA = field(default_factory=trustme.CA)

    @property
    def file(self) -> Path:
        file = self.folder / "ca.pem"
        if not file.exists():
            self.authority.cert_pem.write_to_path(file)
        return file

    def issue(
        self, name: str, *hosts: str, valid: timedelta = timedelta(days=1)
    ) -> CertificateFiles:
        """Issues a certificate for `hosts` into `<name>.pem`, over an earlier one; with the CA."""
        now = datetime.now(UTC)
        issued = self.authority.issue_cert(
            *(hosts or ("localhost", "127.0.0.1")),
            not_before=now - timedelta(days=2),
            not_after=now + valid,
        )
        files = CertificateFiles(
            self.folder / f"{name}.pem", self.folder / f"{name}.key", self.file
        )
        assert files.certificate
        assert files.key
        key = issued.private_key_pem.bytes()
        canaries.tell(key.splitlines()[1])
        chain = b"".join(each.bytes() for each in issued.cert_chain_pems)
        for file, content in (
            (files.certificate, chain),
            (files.key, key),
        ):
            # as certificate managers do: a reader sees the old file or the new one
            new = file.with_suffix(".new")
            new.write_bytes(content)
            os.replace(new, file)  # noqa: PTH105 - the way that is known to be atomic
        return files
