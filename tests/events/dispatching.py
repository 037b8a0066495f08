"""A dispatcher on a clock that a test moves."""

from datetime import datetime, timedelta
from typing import Any

from campaign_service.campaigns.addresses import AddressPolicy, Rules
from campaign_service.campaigns.webhooks import Attempt, Webhook
from campaign_service.events.dispatcher import Dispatcher
from campaign_service.events.webhooks import Webhooks
from campaign_service.storage.runs import SqlRunStore
from campaign_service.storage.webhook_attempts import SqlAttemptStore
from campaign_service.storage.webhook_lanes import SqlLaneStore
from campaign_service.storage.webhooks import SqlWebhookStore
from chat_store.database.engine import Database
from chat_store.filters.fields import Field, Kind
from chat_store.paging import PageRequest, Sort
from tests.campaign.builders import MOMENT
from tests.campaign.test_runs import a_page, claimed, started
from tests.events.reading import a_reader

SECRET = "whsec_c2VjcmV0LW9mLXRoZS10ZXN0cw=="  # noqa: S105 - of these tests


class Deliveries:
    """`now` begins at the real time: signatures are checked against it."""

    def __init__(
        self, database: Database, now: datetime, *, allow: str = "", deny: str = ""
    ) -> None:
        self.now = now
        self.database = database
        self.policy = AddressPolicy(Rules.read(allow), Rules.read(deny))
        self.store = SqlWebhookStore(database)
        self.attempts = SqlAttemptStore(database)
        self.webhooks = Webhooks(self.store, self.policy, now=self.clock)
        self.dispatcher = self.another_dispatcher()

    def clock(self) -> datetime:
        return self.now

    def another_dispatcher(self) -> Dispatcher:
        return Dispatcher(
            a_reader(self.database),
            self.store,
            SqlLaneStore(self.database),
            self.policy,
            now=self.clock,
        )

    async def create(self, url: str, **changes: Any) -> Webhook:
        given = {"id": "crm", "url": url, "secret": SECRET, **changes}
        return await self.webhooks.create(Webhook(**given))

    async def deliver(self) -> None:
        """What is due now."""
        await self.dispatcher.run_once()

    async def deliver_all(self, *, most_rounds: int = 200) -> None:
        """Moves the clock on to each next attempt until nothing is left."""
        for _ in range(most_rounds):
            await self.deliver()
            due = [a.next_attempt_at for a in await self.all_attempts() if a.next_attempt_at]
            if not due:
                return
            self.now = max(self.now, *due)
        raise AssertionError("it goes on and on")

    async def all_attempts(self, webhook_id: str = "crm") -> list[Attempt]:
        """The latest last."""
        sort = (Sort(Field("attempted_at", Kind.DATE)),)
        page = await self.attempts.query(webhook_id, None, PageRequest(100_000, sort))
        return list(page.items)

    async def later(self, **delta: float) -> None:
        self.now += timedelta(**delta)


async def a_sent_campaign(database: Database, id_: str, targets: list[str]) -> None:
    """Created, started, sent in pages of fifty, and completed."""
    await started(database, id_, shards=1)
    runs = SqlRunStore(database)
    lease = await claimed(runs)
    for begin in range(0, len(targets), 50):
        some = targets[begin : begin + 50]
        page = a_page(*some, campaign_id=id_, known=some)
        await runs.commit_page(lease, page, some[-1])

    await runs.finish_pass(lease, MOMENT)
