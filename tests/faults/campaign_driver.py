"""The campaign of a run, from its segments to its end, told by a caller among the faults."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta

import grpc

from campaign_service.campaigns.ids import message_id, message_id_prefix
from herald.campaign.v1 import campaign_pb2
from herald.campaign.v1 import campaign_service_pb2 as campaigns_pb
from herald.segment.v1 import segment_pb2
from herald.segment.v1 import segment_service_pb2 as segments_pb
from tests.faults import dataset
from tests.faults.client import Client
from tests.faults.cluster import Cluster
from tests.faults.extra_calls import ERRANDS
from tests.faults.fair_timeout import FairTimeout
from tests.faults.scenario import CAMPAIGN_ID, Scenario
from tests.harness.reconciliation import DATABASE_IS_DOWN, recount

_POLL_SECONDS = 0.1
_BATCH = 500
_TEMPLATES = {
    "made": campaign_pb2.ChannelTemplate(type="messaging", id="{{receiver.id}}-{{sender.id}}"),
    "distinct": campaign_pb2.ChannelTemplate(type="messaging"),
}


class CampaignDriverError(Exception):
    """The campaign did what no campaign may do."""


class CampaignDriver:
    """`outcomes` is what has to have become of everyone in the end; it grows with the audience."""

    def __init__(self, cluster: Cluster, client: Client, choose: random.Random) -> None:
        self.scenario: Scenario = cluster.scenario
        self._audience = self.scenario.audience
        late = set(self._audience.late)
        self.outcomes = {
            id_: outcome for id_, outcome in self._audience.outcomes.items() if id_ not in late
        }
        self.left: dict[str, datetime] = {}
        """Who has left the audience during the run, and when that was acknowledged."""
        self.deleted = ""
        """The segment that was deleted during the run."""
        self.perhaps: set[str] = set()
        """Who was added at the very end: whether they were in time is not known."""
        self._cluster = cluster
        self._client = client
        self._choose = choose
        self._stopped = False

    async def prepare(self) -> None:
        """Everything but the start."""
        for step in sorted({crash.step for crash in self.scenario.crashes} & ERRANDS.keys()):
            await ERRANDS[step](self._client, step.replace(".", "-"))
        await self._create_segments()
        if "take-ids" in self.scenario.faults:
            await self._take_ids()
        request = campaigns_pb.CreateCampaignRequest(campaign=self._definition())
        await self._client.call(self._client.campaigns.CreateCampaign, request)

    async def start(self) -> None:
        """At once, or by the clock in a moment."""
        request = campaigns_pb.StartCampaignRequest(id=CAMPAIGN_ID)
        if self.scenario.scheduled:
            request.scheduled_for.FromDatetime(datetime.now(UTC) + timedelta(seconds=0.4))
        await self._unless_completed(self._client.campaigns.StartCampaign, request)
        self._cluster.started.set()

    async def stop_and_go(self) -> None:
        """After each stop, nothing comes any more, whatever dies meanwhile."""
        for _ in range(2):
            if await self._cluster.over_within(self._choose.uniform(0.3, 0.9)):
                return
            self._stopped = True
            request = campaigns_pb.StopCampaignRequest(id=CAMPAIGN_ID)
            if not await self._unless_completed(self._client.campaigns.StopCampaign, request):
                return
            at_the_stop = await self._messages()
            await asyncio.sleep(self._choose.uniform(0.2, 1.0))
            later = await self._messages()
            if later != at_the_stop:
                raise CampaignDriverError(f"{later - at_the_stop} messages came after StopCampaign")
            self._cluster.fired["stop-and-go"] += 1
            start = campaigns_pb.StartCampaignRequest(id=CAMPAIGN_ID)
            await self._unless_completed(self._client.campaigns.StartCampaign, start)
            self._stopped = False

    async def grow(self) -> None:
        """More targets for a list: they are reached if the campaign was not over yet."""
        for part in (self._audience.late[::2], self._audience.late[1::2]):
            if await self._cluster.over_within(self._choose.uniform(0.1, 1.2)):
                break
            await self._add("one", part)
            campaign = await self.get()
            if campaign.status == campaign_pb2.CAMPAIGN_STATUS_COMPLETED:
                self.perhaps.update(part)
                return
            self.outcomes |= {id_: self._audience.outcomes[id_] for id_ in part}
            self._cluster.fired["grow"] += 1

    async def shrink(self) -> None:
        """Fewer targets of a list: who has no message then gets none."""
        if await self._cluster.over_within(self._choose.uniform(0.1, 1.2)):
            return
        elsewhere = {
            id_
            for name in self._audience.listed
            if name != "one"
            for id_ in self._audience.listed[name]
        }
        alone = [
            id_
            for id_ in self._audience.listed["one"]
            if id_ not in elsewhere and not self._is_filtered(id_)
        ]
        gone = self._choose.sample(alone, k=len(alone) // 2)
        request = segments_pb.RemoveTargetsRequest(segment_id="one", target_ids=gone)
        await self._client.call(self._client.segments.RemoveTargets, request)
        self._has_left(gone, "shrink")

    async def change_filter(self) -> None:
        """One group of the filter's less: who has no message then gets none."""
        if await self._cluster.over_within(self._choose.uniform(0.1, 1.2)):
            return
        *stay, leaves = self._audience.filtered_groups
        segment = segment_pb2.Segment(id="filter")
        segment.filter.update({"group": {"$in": stay}})
        request = segments_pb.UpdateSegmentRequest(segment=segment)
        request.update_mask.paths.append("filter")
        await self._client.call(self._client.segments.UpdateSegment, request)
        listed = {id_ for targets in self._audience.listed.values() for id_ in targets}
        gone = [
            id_
            for id_ in self._audience.outcomes
            if id_ not in listed and dataset.group_of(dataset.number_of(id_)) == leaves
        ]
        self._has_left(gone, "change-filter")

    async def delete_segment(self) -> None:
        """The campaign stops by itself, with the reason, unless it was completed before."""
        if await self._cluster.over_within(self._choose.uniform(0.1, 1.2)):
            return
        self.deleted = self._choose.choice(list(self._segment_ids()))
        request = segments_pb.DeleteSegmentRequest(id=self.deleted)
        await self._client.call(self._client.segments.DeleteSegment, request)
        self._cluster.fired["delete-segment"] += 1

    def _has_left(self, ids: Sequence[str], fault: str) -> None:
        now = datetime.now(UTC)
        self.left |= dict.fromkeys(ids, now)
        self._cluster.fired[fault] += 1

    def _is_filtered(self, id_: str) -> bool:
        groups = self._audience.filtered_groups
        return bool(groups) and dataset.group_of(dataset.number_of(id_)) in groups

    async def _take_ids(self) -> None:
        """Messages of somebody else have the ids that three targets' messages would get."""
        sent = [id_ for id_, outcome in sorted(self.outcomes.items()) if outcome == "sent"]
        taken = self._choose.sample(sent, k=3)
        channel = {"type": "messaging", "id": "elsewhere", "created_by": dataset.SENDER_ID}
        message = {
            "channel_type": "messaging",
            "channel_id": "elsewhere",
            "user": dataset.SENDER_ID,
        }
        prefix = message_id_prefix(CAMPAIGN_ID)
        records = [
            {"type": "channel", "data": channel},
            *(
                {"type": "message", "data": {**message, "id": message_id(prefix, id_)}}
                for id_ in taken
            ),
        ]
        await self._client.bring_in(records)
        self.outcomes |= dict.fromkeys(taken, "message_id_taken")
        self._cluster.fired["take-ids"] += 1

    async def completed(self, seconds: float) -> campaign_pb2.Campaign:
        """The campaign at its end.

        Raises `CampaignDriverError` for another end, or if nobody was sent to for so many seconds.
        A campaign whose segment was deleted may end STOPPED, and then sends nothing more.
        """
        campaign = campaign_pb2.Campaign()
        timeout, sent = FairTimeout(seconds), 0
        while campaign.status != campaign_pb2.CAMPAIGN_STATUS_COMPLETED:
            await asyncio.sleep(_POLL_SECONDS)
            stopped = self._stopped
            campaign = await self.get()
            if campaign.stats.messages_sent > sent:
                # on a busy machine, servers that are killed every second send little
                timeout, sent = FairTimeout(seconds), campaign.stats.messages_sent
            by_itself = campaign.status == campaign_pb2.CAMPAIGN_STATUS_STOPPED
            if by_itself and self.deleted:
                await self._ended_by_deletion(campaign)
                return campaign
            if by_itself and not stopped and not self._stopped:
                raise CampaignDriverError(f"stopped by itself: {campaign.status_reason}")
            try:
                timeout.spend()
            except TimeoutError:
                raise CampaignDriverError(
                    f"nobody sent to for {seconds:.0f} s: {campaign}"
                ) from None
        return campaign

    async def _ended_by_deletion(self, campaign: campaign_pb2.Campaign) -> None:
        if self.deleted not in campaign.status_reason:
            raise CampaignDriverError(
                f"the reason does not name {self.deleted}: {campaign.status_reason}"
            )
        at_the_end = await self._messages()
        await asyncio.sleep(self._choose.uniform(0.2, 0.5))
        later = await self._messages()
        if later != at_the_end:
            raise CampaignDriverError(f"{later - at_the_end} messages came after the end")

    async def get(self) -> campaign_pb2.Campaign:
        request = campaigns_pb.GetCampaignRequest(id=CAMPAIGN_ID)
        answer = await self._client.call(self._client.campaigns.GetCampaign, request)
        campaign: campaign_pb2.Campaign = answer.campaign
        return campaign

    async def _create_segments(self) -> None:
        kind = segment_pb2.SEGMENT_TYPE_USER
        if self._audience.is_rooms:
            kind = segment_pb2.SEGMENT_TYPE_CHANNEL
        if self._audience.filtered_groups:
            segment = segment_pb2.Segment(id="filter", type=kind)
            segment.filter.update({"group": {"$in": list(self._audience.filtered_groups)}})
            await self._create(segment)
        if self._audience.way == "everyone":
            await self._create(segment_pb2.Segment(id="everyone", type=kind, all_users=True))
        if self._audience.way == "users":
            return
        for id_, targets in self._audience.listed.items():
            await self._create(segment_pb2.Segment(id=id_, type=kind))
            for start in range(0, len(targets), _BATCH):
                await self._add(id_, targets[start : start + _BATCH])

    async def _create(self, segment: segment_pb2.Segment) -> None:
        request = segments_pb.CreateSegmentRequest(segment=segment)
        await self._client.call(self._client.segments.CreateSegment, request)

    async def _add(self, segment_id: str, targets: Sequence[str]) -> None:
        request = segments_pb.AddTargetsRequest(segment_id=segment_id, target_ids=targets)
        await self._client.call(self._client.segments.AddTargets, request)

    def _definition(self) -> campaign_pb2.Campaign:
        audience = self._audience
        text = dataset.ROOM_TEXT if audience.is_rooms else dataset.TEXT
        campaign = campaign_pb2.Campaign(
            id=CAMPAIGN_ID,
            sender_id=dataset.SENDER_ID,
            message_template=campaign_pb2.MessageTemplate(text=text),
            max_messages_per_second=self.scenario.rate,
        )
        if audience.channels in _TEMPLATES and not audience.is_rooms:
            campaign.create_channels = True
            campaign.channel_template.CopyFrom(_TEMPLATES[audience.channels])
        if audience.way == "users":
            campaign.user_ids.extend(audience.listed[""])
        else:
            campaign.segment_ids.extend(self._segment_ids())
        return campaign

    def _segment_ids(self) -> Iterator[str]:
        yield from self._audience.listed
        if self._audience.filtered_groups:
            yield "filter"
        if self._audience.way == "everyone":
            yield "everyone"

    async def _unless_completed(
        self, method: Callable[..., Awaitable[object]], request: object
    ) -> bool:
        """Whether it was done. What an earlier try has done may have completed the campaign."""
        try:
            await self._client.call(method, request)
        except grpc.aio.AioRpcError as error:
            if error.code() != grpc.StatusCode.FAILED_PRECONDITION:
                raise
            if (await self.get()).status != campaign_pb2.CAMPAIGN_STATUS_COMPLETED:
                raise
            return False
        return True

    async def _messages(self) -> int:
        """How many there are, by the tables; asked again while they can't be read."""
        while True:
            try:
                account = await asyncio.to_thread(recount, self._cluster.database_url, CAMPAIGN_ID)
            except DATABASE_IS_DOWN:
                await asyncio.sleep(_POLL_SECONDS)
            else:
                return account.messages
