"""Audit entries as messages, and the fields that they can be filtered and sorted by."""

from chat_store.audit.entries import AuditEntry
from chat_store.filters.fields import Catalogue, Field, Kind
from chat_store.paging import Sort
from herald.access.v1 import access_pb2 as pb
from herald_rpc.wire.fields import timestamp

_POSITION = Field("position", Kind.NUMBER)
_TEXTS = (
    "principal_id",
    "principal_name",
    "method",
    "resource",
    "refusal",
    "request_id",
    "peer",
)

AUDIT_FIELDS = Catalogue(
    (
        _POSITION,
        Field("created_at", Kind.DATE),
        *(Field(name, Kind.STRING) for name in _TEXTS),
    ),
    allow_custom=False,
)

LATEST_FIRST = (Sort(_POSITION, descending=True),)


def entry_to_proto(entry: AuditEntry) -> pb.AuditEntry:
    return pb.AuditEntry(
        position=entry.position,
        created_at=timestamp(entry.created_at),
        principal_id=entry.principal_id,
        principal_name=entry.principal_name,
        method=entry.method,
        resource=entry.resource,
        revision_before=entry.revision_before,
        revision_after=entry.revision_after,
        refusal=entry.refusal,
        request_id=entry.request_id,
        peer=entry.peer,
        hash=entry.hash.hex(),
    )
