"""One page of targets turned into what is to be written, and nothing written yet."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from campaign_service.addresses import Address
from campaign_service.campaigns import SenderMode
from campaign_service.compiled import CompiledCampaign
from campaign_service.ids import message_id
from campaign_service.limits import MAX_TEXT
from campaign_service.outcomes import NotSent, Reason
from campaign_service.templates import RenderError
from campaign_service.views import channel_view, view
from chat_store.models import Channel, ChannelState, PickedChannel
from chat_store.pages import PageRows

# what a message's custom object says of its campaign, over any such keys of the template's
MARKS = ("campaign_id", "created_by_campaign_id")
_TIMES = frozenset({"created_at", "updated_at", "last_message_at"})
_OBSTACLES = {
    ChannelState.DELETED: Reason.CHANNEL_NOT_FOUND,
    ChannelState.FROZEN: Reason.CHANNEL_FROZEN,
}
_OF_CHANNEL = frozenset({Reason.CHANNEL_NOT_FOUND, Reason.CHANNEL_FROZEN})


@dataclass(frozen=True, slots=True)
class PlannedPage:
    """Every target of the page is counted once: in `sent` or in `not_sent`."""

    rows: PageRows
    sent: int
    channels_created: int
    not_sent: tuple[NotSent, ...]

    def at(self, moment: datetime) -> "PlannedPage":
        """The same, but written at `moment`."""
        return replace(
            self,
            rows=replace(
                self.rows,
                moment=moment,
                channel_constants=_moved(self.rows.channel_constants, moment),
                message_constants=_moved(self.rows.message_constants, moment),
            ),
        )


def _moved(constants: Mapping[str, Any], moment: datetime) -> dict[str, Any]:
    return {name: moment if name in _TIMES else value for name, value in constants.items()}


class PageDraft:
    """Collects a page target by target, column-wise, ready for set-based statements."""

    def __init__(self, run: CompiledCampaign, moment: datetime) -> None:
        self._run = run
        self._moment = moment
        self._not_sent: list[NotSent] = []
        self._new: dict[str, tuple[Address, Any]] = {}
        self._arrivals: Counter[str] = Counter()
        self._joined: dict[str, None] = {}
        self._shown: list[tuple[str, str]] = []
        self._messages: list[tuple[str, str, str, str]] = []
        self._customs: list[Any] = []
        self._attachments: list[Any] = []

    def refuse(self, not_sent: list[NotSent]) -> None:
        self._not_sent += not_sent

    def add(self, address: Address, channel: PickedChannel | None) -> None:
        """Plans one message into what the store has under the address's CID."""
        creating = channel is None and address.cid not in self._new
        state = ChannelState.OPEN if channel is None else channel.state
        reason = self._cannot_create(address) if creating else _OBSTACLES.get(state)
        if reason is None:
            try:
                reason = self._write(address, channel, creating=creating)
            except RenderError:
                reason = Reason.TEMPLATE_ERROR
        if reason is not None:
            cid = address.cid if reason in _OF_CHANNEL else None
            self._not_sent.append(NotSent(address.target_id, reason, cid))

    def _cannot_create(self, address: Address) -> Reason | None:
        creatable = self._run.definition.create_channels and address.channel_id is not None
        return None if creatable else Reason.CHANNEL_NOT_FOUND

    def _write(
        self,
        address: Address,
        channel: PickedChannel | None,
        *,
        creating: bool,
    ) -> Reason | None:
        run = self._run
        templates = run.templates
        variables: Mapping[str, Any] = address.variables
        new_custom = templates.channel_custom.render(variables) if creating else None
        if run.message_reads_channel:
            variables = self._with_channel(address, channel, new_custom)
        text = templates.text.render(variables)
        if len(text) > MAX_TEXT:
            return Reason.MESSAGE_TOO_LONG
        custom = templates.custom.render(variables)
        attachments = templates.attachments.render(variables)
        # nothing can fail from here on: the columns stay of one length
        self._customs.append(custom)
        self._attachments.append(attachments)
        id_ = message_id(run.message_id_prefix, address.target_id)
        self._messages.append((id_, address.cid, address.target_id, text))
        if creating:
            self._new[address.cid] = (address, new_custom)
        else:
            self._arrivals[address.cid] += 1
            self._enter(address, channel)
        return None

    def _enter(self, address: Address, channel: PickedChannel | None) -> None:
        definition = self._run.definition
        is_open = channel is not None and channel.state is ChannelState.OPEN
        if definition.sender_mode is SenderMode.INCLUDE and is_open:
            self._joined[address.cid] = None
        if definition.show_channels and not self._run.to_channels:
            self._shown.append((address.cid, address.target_id))

    def _with_channel(
        self, address: Address, channel: PickedChannel | None, new_custom: Any
    ) -> Mapping[str, Any]:
        if channel is None:
            first, custom = self._new.get(address.cid, (address, new_custom))
            seen = channel_view(self._channel_to_be(first, custom))
        else:
            seen = view(channel.values)
        if self._run.to_channels:
            return {**address.variables, "channel": seen, "custom": seen.get("custom")}
        return {**address.variables, "channel": seen}

    def _channel_to_be(self, address: Address, custom: Any) -> Channel:
        template = self._run.definition.channel_template
        return Channel(
            type=template.type if template else "",
            id=address.channel_id or "",
            team=template.team if template else None,
            created_by_id=self._run.sender.id,
            custom=custom,
            distinct=address.distinct,
            member_count=self._member_count(address.target_id),
            created_at=self._moment,
            updated_at=self._moment,
        )

    def _member_count(self, receiver_id: str) -> int:
        return len(self._run.standing_ids | {receiver_id})

    def finish(self) -> PlannedPage:
        rows = PageRows(moment=self._moment)
        if self._messages:
            rows = replace(rows, **self._message_rows())
        if self._new:
            rows = replace(rows, **self._channel_rows())
        if self._shown:
            cids, user_ids = zip(*self._shown, strict=True)
            rows = replace(rows, shown={"cid": cids, "user_id": user_ids})
        rows = replace(
            rows,
            arrivals=self._arrivals,
            joined=list(self._joined),
            joining_user_id=self._run.sender.id,
        )
        return PlannedPage(rows, len(self._messages), len(self._new), tuple(self._not_sent))

    def _message_rows(self) -> dict[str, Any]:
        run = self._run
        template = run.definition.message_template
        ids, cids, targets, texts = zip(*self._messages, strict=True)
        columns: dict[str, Any] = {"id": ids, "cid": cids, "target_id": targets, "text": texts}
        constants: dict[str, Any] = {
            "user_id": run.sender.id,
            "type": "regular",
            "poll_id": template.poll_id,
            "searchable": template.searchable,
            "campaign_id": run.id,
            "created_at": self._moment,
        }
        marks = dict.fromkeys(MARKS, run.id)
        if run.templates.custom.constant:
            constants["custom"] = {**self._customs[0], **marks}
        else:
            columns["custom"] = [{**custom, **marks} for custom in self._customs]
        if run.templates.attachments.constant:
            constants["attachments"] = self._attachments[0]
        else:
            columns["attachments"] = self._attachments
        return {"messages": columns, "message_constants": constants}

    def _channel_rows(self) -> dict[str, Any]:
        run = self._run
        template = run.definition.channel_template
        addresses = [address for address, _ in self._new.values()]
        columns: dict[str, Any] = {
            "cid": list(self._new),
            "id": [address.channel_id for address in addresses],
            "distinct": [address.distinct for address in addresses],
            "member_count": [self._member_count(address.target_id) for address in addresses],
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
            (address.cid, address.target_id)
            for address in addresses
            if address.target_id not in run.standing_ids
        ]
        receiver_cids, user_ids = zip(*receivers, strict=True) if receivers else ((), ())
        return {
            "channels": columns,
            "channel_constants": constants,
            "standing_members": run.standing_members,
            "receivers": {"cid": receiver_cids, "user_id": user_ids},
        }
