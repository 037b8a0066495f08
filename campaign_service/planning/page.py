"""Builds the rows of one page of targets, without writing them."""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from campaign_service.campaigns.ids import message_id
from campaign_service.campaigns.limits import MAX_TEXT
from campaign_service.campaigns.model import SenderMode
from campaign_service.campaigns.outcomes import NotSent, Outcome, Reason
from campaign_service.planning.compiled import CompiledCampaign
from campaign_service.planning.routing import Route
from campaign_service.templates.text_templates import RenderError
from campaign_service.templates.views import JsonView, channel_view
from chat_store.models import Channel, ChannelState, PickedChannel, Values
from chat_store.page_rows import PageRows

# set to the campaign's id in each message's custom object, over the template's own such keys
CAMPAIGN_KEYS = ("campaign_id", "created_by_campaign_id")
_TIMES = frozenset({"created_at", "updated_at", "last_message_at"})
_OBSTACLES = {
    ChannelState.DELETED: Reason.CHANNEL_NOT_FOUND,
    ChannelState.FROZEN: Reason.CHANNEL_FROZEN,
}
_OF_CHANNEL = frozenset(
    {Reason.CHANNEL_NOT_FOUND, Reason.CHANNEL_FROZEN, Reason.RECEIVER_NOT_MEMBER}
)


@dataclass(frozen=True, slots=True)
class PlannedPage:
    """A planned page. Every target is counted once: in `sent` or in `not_sent`."""

    rows: PageRows
    sent: int
    channels_created: int
    not_sent: tuple[NotSent, ...]

    @property
    def first_failure(self) -> NotSent | None:
        """The first failed target, if none gets a message and more than half of the page fails.

        So a few unreachable targets don't hide that the campaign's templates are wrong.
        """
        if self.sent:
            return None
        failed = [found for found in self.not_sent if found.reason.outcome is Outcome.FAILED]
        return failed[0] if len(failed) > len(self.not_sent) / 2 else None

    def with_time(self, moment: datetime) -> "PlannedPage":
        """Returns the same page with `moment`, in whole milliseconds, as its time."""
        moment = in_milliseconds(moment)
        return replace(
            self,
            rows=replace(
                self.rows,
                moment=moment,
                channel_constants=_with_time(self.rows.channel_constants, moment),
                message_constants=_with_time(self.rows.message_constants, moment),
            ),
        )


def in_milliseconds(moment: datetime) -> datetime:
    """As clients have times, which compare them with their own and give them back: rounded down."""
    return moment.replace(microsecond=moment.microsecond // 1_000 * 1_000)


def _with_time(constants: Mapping[str, Any], moment: datetime) -> dict[str, Any]:
    return {name: moment if name in _TIMES else value for name, value in constants.items()}


class PageBuilder:
    """Collects the rows of a page by column, target by target, for set-based statements."""

    def __init__(self, run: CompiledCampaign, moment: datetime) -> None:
        spec = run.spec
        self._run = run
        self._moment = in_milliseconds(moment)
        self._sender_joins = spec.sender_mode is SenderMode.INCLUDE
        self._unhides = spec.show_channels and not run.to_channels
        self._not_sent: list[NotSent] = []
        self._new: dict[str, tuple[Route, Any]] = {}
        # targets with a message, and the rendered columns of these messages
        self._sent: list[Route] = []
        self._texts: list[str] = []
        self._customs: list[Any] = []
        self._attachments: list[Any] = []
        # those of them whose channel exists
        self._to_existing: list[Route] = []
        self._joined: dict[str, None] = {}
        # targets whose message id belongs to another message
        self._taken: Collection[str] = ()

    def skip(self, not_sent: list[NotSent]) -> None:
        self._not_sent += not_sent

    def fail_taken(self, target_ids: Collection[str]) -> None:
        """Fails these targets, unless they get no message for another reason."""
        self._taken = target_ids

    def add(
        self, route: Route, channel: PickedChannel | None, *, is_stranger: bool = False
    ) -> None:
        """Plans one message into the route's channel; None if that does not exist.

        A stranger is a receiver who is not a member of the channel, where others would read it.
        """
        creating = channel is None and route.cid not in self._new
        if creating:
            reason = self._cannot_create(route)
        elif channel is not None:
            reason = _OBSTACLES.get(channel.state)
            if is_stranger and not self._enters(route, channel):
                reason = reason or Reason.RECEIVER_NOT_MEMBER
        else:
            reason = self._is_stranger_in_new(route)
        if reason is None:
            try:
                reason = self._write(route, channel, creating=creating)
            except RenderError as error:
                failed = NotSent(route.target_id, Reason.TEMPLATE_ERROR, explanation=str(error))
                self._not_sent.append(failed)
        if reason is not None:
            cid = route.cid if reason in _OF_CHANNEL else None
            self._not_sent.append(NotSent(route.target_id, reason, cid))

    def _enters(self, route: Route, channel: PickedChannel) -> bool:
        """Whether the receiver is the sender, who joins with the message."""
        joins = self._sender_joins and channel.state is ChannelState.OPEN
        return joins and route.target_id == self._run.sender.id

    def _is_stranger_in_new(self, route: Route) -> Reason | None:
        """A channel that another target of the page has made has that target's members."""
        maker, _ = self._new[route.cid]
        is_member = route.target_id in {*self._run.fixed_member_ids, maker.target_id}
        return None if is_member else Reason.RECEIVER_NOT_MEMBER

    def _cannot_create(self, route: Route) -> Reason | None:
        creatable = self._run.spec.create_channels and route.channel_id is not None
        return None if creatable else Reason.CHANNEL_NOT_FOUND

    def _write(
        self,
        route: Route,
        channel: PickedChannel | None,
        *,
        creating: bool,
    ) -> Reason | None:
        run = self._run
        templates = run.templates
        variables = run.variables(route.receiver)
        new_custom = templates.channel_custom.render(variables) if creating else None
        if run.message_reads_channel:
            self._add_channel_variables(variables, route, channel, new_custom)
        text = templates.text.render(variables)
        if len(text) > MAX_TEXT:
            return Reason.MESSAGE_TOO_LONG
        custom = None if templates.custom.constant else templates.custom.render(variables)
        attachments = (
            None if templates.attachments.constant else templates.attachments.render(variables)
        )
        if route.target_id in self._taken:
            return Reason.MESSAGE_ID_TAKEN
        # nothing can fail from here on, so the columns keep the same length
        self._sent.append(route)
        self._texts.append(text)
        self._customs.append(custom)
        self._attachments.append(attachments)
        if creating:
            self._new[route.cid] = (route, new_custom)
            return None
        self._to_existing.append(route)
        if self._sender_joins and channel is not None and channel.state is ChannelState.OPEN:
            self._joined[route.cid] = None
        return None

    def _add_channel_variables(
        self,
        variables: JsonView,
        route: Route,
        channel: PickedChannel | None,
        new_custom: Any,
    ) -> None:
        if channel is None:
            first, custom = self._new.get(route.cid, (route, new_custom))
            seen = channel_view(self._channel_to_be(first, custom))
        else:
            seen = self._run.channel_fields.view(channel.values)
        variables["channel"] = seen
        if self._run.to_channels:
            variables["custom"] = seen.get("custom")

    def _channel_to_be(self, route: Route, custom: Any) -> Channel:
        template = self._run.spec.channel_template
        return Channel(
            type=template.type if template else "",
            id=route.channel_id or "",
            team=template.team if template else None,
            created_by_id=self._run.sender.id,
            custom=custom,
            distinct=route.distinct,
            member_count=self._member_count(route.target_id),
            created_at=self._moment,
            updated_at=self._moment,
        )

    def _member_count(self, receiver_id: str) -> int:
        return len(self._run.fixed_member_ids | {receiver_id})

    def build(self) -> PlannedPage:
        rows = PageRows(moment=self._moment)
        if self._sent:
            rows = replace(rows, **self._message_rows())
        if self._new:
            rows = replace(rows, **self._channel_rows())
        rows = replace(
            rows,
            messages_per_channel=Counter([route.cid for route in self._to_existing]),
            sender_joins=list(self._joined),
            sender_id=self._run.sender.id,
            unhidden=self._unhidden() if self._unhides else {},
        )
        return PlannedPage(rows, len(self._sent), len(self._new), tuple(self._not_sent))

    def _message_rows(self) -> dict[str, Any]:
        run = self._run
        template = run.spec.message_template
        targets = [route.target_id for route in self._sent]
        columns: dict[str, Any] = {
            "id": [message_id(run.message_id_prefix, target_id) for target_id in targets],
            "cid": [route.cid for route in self._sent],
            "target_id": targets,
            "text": self._texts,
        }
        constants: dict[str, Any] = {
            "user_id": run.sender.id,
            "type": "regular",
            "poll_id": template.poll_id,
            "searchable": template.searchable,
            "campaign_id": run.id,
            "created_at": self._moment,
        }
        campaign_keys = dict.fromkeys(CAMPAIGN_KEYS, run.id)
        if run.templates.custom.constant:
            constants["custom"] = {**run.templates.custom.render({}), **campaign_keys}
        else:
            columns["custom"] = [{**custom, **campaign_keys} for custom in self._customs]
        if run.templates.attachments.constant:
            constants["attachments"] = run.templates.attachments.render({})
        else:
            columns["attachments"] = self._attachments
        return {"messages": columns, "message_constants": constants}

    def _unhidden(self) -> Values:
        return {
            "cid": [route.cid for route in self._to_existing],
            "user_id": [route.target_id for route in self._to_existing],
        }

    def _channel_rows(self) -> dict[str, Any]:
        run = self._run
        template = run.spec.channel_template
        routes = [route for route, _ in self._new.values()]
        columns: dict[str, Any] = {
            "cid": list(self._new),
            "id": [route.channel_id for route in routes],
            "distinct": [route.distinct for route in routes],
            "member_count": [self._member_count(route.target_id) for route in routes],
        }
        constants: dict[str, Any] = {
            "type": template.type if template else "",
            "team": template.team if template else None,
            "created_by_id": run.sender.id,
            "filter_tags": [],
            "frozen": False,
            "disabled": False,
            "message_count": 1,
            "created_at": self._moment,
            "updated_at": self._moment,
            "last_message_at": self._moment,
        }
        customs = [custom for _, custom in self._new.values()]
        if run.templates.channel_custom.constant:
            constants["custom"] = customs[0]
        else:
            columns["custom"] = customs
        receivers = [
            (route.cid, route.target_id)
            for route in routes
            if route.target_id not in run.fixed_member_ids
        ]
        receiver_cids, user_ids = zip(*receivers, strict=True) if receivers else ((), ())
        return {
            "channels": columns,
            "channel_constants": constants,
            "fixed_members": run.fixed_members,
            "receivers": {"cid": receiver_cids, "user_id": user_ids},
        }
