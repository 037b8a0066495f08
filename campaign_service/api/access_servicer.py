"""AccessService: each call decodes its request, does its work and encodes the response."""

from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Any

from campaign_service.access.issuing import TokenIssuer
from campaign_service.wire.audit import AUDIT_FIELDS, LATEST_FIRST, entry_to_proto
from campaign_service.wire.token import spec_from_proto, token_to_proto
from chat_store.access.store import TokenStore
from chat_store.audit.store import AuditLog
from chat_store.ids import MAX_ID
from chat_store.paging import NEWEST_FIRST
from herald.access.v1 import access_service_pb2 as pb
from herald.access.v1 import access_service_pb2_grpc as pb_grpc
from herald_rpc.server.principals import current_principal
from herald_rpc.wire.fields import required
from herald_rpc.wire.queries import PageSizes, read_paging, read_query
from herald_rpc.wire.response_pages import fitting_page

_SIZES = PageSizes(default=25, largest=100)
_ENTRIES = PageSizes(default=25, largest=1_000)


class AccessServicer(pb_grpc.AccessServiceServicer):
    def __init__(
        self,
        issuer: TokenIssuer,
        store: TokenStore,
        audit_log: AuditLog,
        now: Callable[[], datetime],
    ) -> None:
        self._issuer = issuer
        self._store = store
        self._audit_log = audit_log
        self._now = now

    async def CreateToken(
        self, request: pb.CreateTokenRequest, context: Any
    ) -> pb.CreateTokenResponse:
        spec = spec_from_proto(request.token, self._now())
        issued = await self._issuer.issue(spec, current_principal())
        return pb.CreateTokenResponse(token=token_to_proto(issued.token), secret=issued.text)

    async def GetToken(self, request: pb.GetTokenRequest, context: Any) -> pb.GetTokenResponse:
        token = await self._store.get(required(request.id, "id", MAX_ID))
        return pb.GetTokenResponse(token=token_to_proto(token))

    async def QueryTokens(
        self, request: pb.QueryTokensRequest, context: Any
    ) -> pb.QueryTokensResponse:
        paging = read_paging(
            "tokens",
            request.page_size,
            request.page_token,
            sizes=_SIZES,
            sort=NEWEST_FIRST,
            bound_to=[request.show_revoked],
        )
        read = partial(self._store.query, show_revoked=request.show_revoked)
        answer = await fitting_page(paging, read, token_to_proto)
        return pb.QueryTokensResponse(
            tokens=answer.records,
            next_page_token=answer.next_token,
            prev_page_token=answer.prev_token,
        )

    async def RevokeToken(
        self, request: pb.RevokeTokenRequest, context: Any
    ) -> pb.RevokeTokenResponse:
        token = await self._store.revoke(required(request.id, "id", MAX_ID), self._now())
        return pb.RevokeTokenResponse(token=token_to_proto(token))

    async def QueryAudit(
        self, request: pb.QueryAuditRequest, context: Any
    ) -> pb.QueryAuditResponse:
        query = await read_query(
            "audit",
            filter=request.filter,
            sort=request.sort,
            page_size=request.page_size,
            page_token=request.page_token,
            sizes=_ENTRIES,
            catalogue=AUDIT_FIELDS,
            default_sort=LATEST_FIRST,
        )
        find = partial(self._audit_log.query, query.predicate)
        answer = await fitting_page(query.paging, find, entry_to_proto)
        return pb.QueryAuditResponse(
            entries=answer.records,
            next_page_token=answer.next_token,
            prev_page_token=answer.prev_token,
        )
