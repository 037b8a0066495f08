"""The credentials of a server, which take new certificates with the next connection."""

from typing import Any

import grpc

from herald_rpc.certificates import Certificates, CertificateWatch


def server_credentials(watch: CertificateWatch) -> grpc.ServerCredentials:
    """Demands a client certificate if there is a CA. Connections keep what they began with."""
    generation = watch.generation

    def renewed() -> Any:
        # in a thread of gRPC's, before each handshake
        nonlocal generation
        watch.refresh()
        if watch.generation == generation:
            return None
        generation = watch.generation
        return _configuration(watch.certificates)

    return grpc.dynamic_ssl_server_credentials(
        _configuration(watch.certificates),
        renewed,
        require_client_authentication=watch.certificates.ca is not None,
    )


def _configuration(certificates: Certificates) -> Any:
    return grpc.ssl_server_certificate_configuration(
        [(certificates.key or b"", certificates.chain or b"")], root_certificates=certificates.ca
    )
