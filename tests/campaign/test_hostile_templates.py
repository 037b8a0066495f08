"""What nobody can do with templates, neither to others nor to the server."""

import re
import sys
import time
import tracemalloc
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, TypeVar

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from campaign_service.campaigns.errors import InvalidTemplateError
from campaign_service.campaigns.limits import MAX_TEXT
from campaign_service.templates.grammar import MAX_NODES, MAX_STATEMENT_DEPTH
from campaign_service.templates.text_templates import RenderError
from chat_store.database.engine import open_database
from chat_store.sql.stores import sql_chat_store
from herald.campaign.v1 import campaign_pb2
from tests.campaign.builders import MOMENT, SENDER_ID, a_campaign_message, a_user
from tests.campaign.hostile import BOMBS, JSON_BOMBS, REFUSED, SLOW
from tests.campaign.rendering import CUSTOM, VARIABLES, compile_json, compile_text
from tests.campaign.server_pair import ServerPair, start_pair
from tests.harness.reconciliation import assert_everyone_has_one_outcome

T = TypeVar("T")


@pytest.mark.parametrize("source", REFUSED, ids=lambda source: source[:100])
def test_a_template_that_reaches_outside_or_asks_for_too_much_is_refused(source: str) -> None:
    def compiling() -> None:
        with pytest.raises(InvalidTemplateError):
            compile_text(source)

    assert_bounded(compiling)
    with pytest.raises(InvalidTemplateError):
        compile_json([source])


@pytest.mark.parametrize(
    "depth",
    [
        17,
        pytest.param(40, marks=pytest.mark.nightly),
        pytest.param(80, marks=pytest.mark.nightly),
        160,
    ],
)
@pytest.mark.parametrize(
    ("opening", "middle", "closing"),
    [
        ("{% for x in receiver.tags %}", "x", "{% endfor %}"),
        ("{% if receiver.x %}", "x", "{% endif %}"),
        ("{% if 1 %}{% for x in receiver.tags %}", "x", "{% endfor %}{% endif %}"),
        ("{% if 1 %}{% for x in receiver.tags %}{% set y = x %}", "", "{% endfor %}{% endif %}"),
    ],
    ids=["for", "if", "both", "with names"],
)
def test_a_template_that_nests_too_deeply_is_refused_before_it_is_compiled(
    opening: str, middle: str, closing: str, depth: int
) -> None:
    test_a_template_that_reaches_outside_or_asks_for_too_much_is_refused(
        opening * depth + middle + closing * depth
    )


def test_a_template_may_nest_as_deep_as_the_limit() -> None:
    loops = "{% for x in [1] %}" * MAX_STATEMENT_DEPTH + "x" + "{% endfor %}" * MAX_STATEMENT_DEPTH
    choices = "{% if 1 == 2 %}" + "{% elif 1 == 3 %}y" * 100 + "{% else %}z{% endif %}"

    assert compile_text(loops + choices).render(VARIABLES) == "xz"


@pytest.mark.parametrize("source", [*BOMBS, *SLOW], ids=lambda source: source[:100])
def test_a_bomb_fails_its_receiver_alone(source: str) -> None:
    compiled = compile_text(source)

    def rendering() -> None:
        with pytest.raises(RenderError):
            compiled.render(VARIABLES)

    assert_bounded(rendering)
    assert compile_text("{{ receiver.name }}").render(VARIABLES) == "Ann"


@pytest.mark.parametrize("value", JSON_BOMBS, ids=lambda value: str(value)[:60])
def test_a_bomb_in_a_json_value_fails_its_receiver_alone(value: Any) -> None:
    compiled = compile_json(value)

    def rendering() -> None:
        with pytest.raises(RenderError):
            compiled.render(VARIABLES)

    assert_bounded(rendering)


@pytest.mark.parametrize(
    "value",
    [
        ["{{ receiver.name }}"] * 501,
        {f"k{i}": "{{ custom.x }}" + " " * 300 for i in range(100)},
        ["{{custom}}" for _ in range(100_000)],
    ],
    ids=["too many", "too long together", "a whole request of them"],
)
def test_templates_that_take_too_long_to_compile_are_refused(value: Any) -> None:
    def compiling() -> None:
        with pytest.raises(InvalidTemplateError):
            compile_json(value)

    assert_bounded(compiling)


HARMLESS = [
    ("{{ receiver.__class__ }}{{ receiver['__class__'] }}{{ ''.__class__ }}", ""),
    ("{{ receiver.items }}{{ receiver.keys }}{{ receiver.tags.append }}", ""),
    ("{{ receiver.tags|map(attribute='__class__')|join }}", ""),
    ("{{ receiver.orders|sort(attribute='__class__')|length }}", "2"),
    ("{% for x in [1] %}{{ loop.__init__ }}{{ loop._iterable }}{% endfor %}", ""),
    ("{% set receiver = 'me' %}{{ receiver }}", "me"),
    ("{% set x = 1 %}{% for i in [1, 2] %}{% set x = i %}{% endfor %}{{ x }}", "1"),
    ("{{ '{{ receiver.name }}' }}", "{{ receiver.name }}"),
    ("{{ 1 ** 9 }}{{ 0 * 10**9 }}", "10"),
    ("{{ receiver.tags * 10**9 }}{{ receiver.name + receiver }}{{ receiver < sender }}", "False"),
    ("{{ '%s' % sender }}", '{"id":"acme","name":"Acme"}'),
    ("{{ (-8) ** 0.5 }}{{ receiver.age / (receiver.age - receiver.age) }}", ""),
    ("{{ receiver.age|round(10 ** 9) }}{{ 'x'|truncate(10 ** 60) }}", "41x"),
    ("{{ receiver.tags|map('sum')|list }}{{ [5]|select('divisibleby', 0)|list }}", "[0,0,0][]"),
    ("{{ receiver|max(attribute='x') }}{{ receiver.orders|sort|length }}", "2"),
    ("{% set a, b, c = receiver.tags[:2] %}{{ a }}{{ b }}{{ c }}", "ba"),
    ("{% for a, b, c in receiver.orders %}{{ a }}{{ b }}{{ c }}{% endfor %}", "idtotal" * 2),
    ("{{ custom.lists|sum(start=custom.numbers) }}", "0"),
]


@pytest.mark.parametrize(("source", "text"), HARMLESS)
def test_what_looks_hostile_may_be_harmless(source: str, text: str) -> None:
    assert compile_text(source).render(VARIABLES) == text


def test_a_render_that_failed_leaves_the_next_one_its_whole_budget() -> None:
    greedy = compile_text("{{ 'x' * 50000 }}")
    with pytest.raises(RenderError):
        compile_text("{{ 'x' * 10**9 }}").render(VARIABLES)

    assert len(greedy.render(VARIABLES)) == len(greedy.render(VARIABLES)) == 50_000


def assert_bounded(work: Callable[[], None]) -> None:
    """Within 100 ms and 50 MB. Others' load is no part of a thread's time, but slows it, too."""
    # the tracer of `make coverage` makes each line slower
    most = 0.1 if sys.gettrace() is None else 1.0
    assert any(thread_seconds(work) < most for _ in range(3))

    tracemalloc.start()
    try:
        work()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 50 * 2**20


def thread_seconds(work: Callable[[], None]) -> float:
    started = time.thread_time()
    work()
    return time.thread_time() - started


# --- through both real servers

# before the others: a campaign that could send nothing at first would stop
GOOD = ["a-good1", "a-good2", "a-good3"]
# of the thread in which both servers and these tests run: others' load is no part of it
SLOWEST_ANSWER_SECONDS = 1


@pytest.mark.nightly
async def test_bombs_fail_their_receivers_while_others_are_sent_to_and_answered(
    sqlite_url: str,
) -> None:
    """Each bomb has a receiver of its own, whose data sets it off."""
    bombs = [*BOMBS, *SLOW, *JSON_BOMBS]
    receivers = [f"bomb{number:03}" for number in range(len(bombs))]
    await with_receivers(sqlite_url, receivers)
    campaigns = list(packed(bombs))
    async with start_pair(sqlite_url, page_size=20) as services:
        for number, (template, hit) in enumerate(campaigns):
            users = [*GOOD, *(receivers[index] for index in hit)]
            message = {"id": f"c{number}", "user_ids": users, "message_template": template}
            await services.create(a_campaign_message(message))
        answers = Answers(services)
        for number in range(len(campaigns)):
            await answers.timed(services.start(f"c{number}"))
        for number in range(len(campaigns)):
            await answers.until_completed(f"c{number}")

    assert sorted(index for _, hit in campaigns for index in hit) == list(range(len(bombs)))
    for number, (_, hit) in enumerate(campaigns):
        account = assert_everyone_has_one_outcome(sqlite_url, f"c{number}", len(GOOD) + len(hit))
        assert account.messages == len(GOOD), [bombs[index] for index in hit]
        assert account.reasons == {"template_error": len(hit)}
    assert answers.slowest < SLOWEST_ANSWER_SECONDS


class Answers:
    """Asks the server all the while, and notes how long the slowest answer takes."""

    def __init__(self, services: ServerPair) -> None:
        self._services = services
        self.slowest = 0.0

    async def timed(self, call: Awaitable[T]) -> T:
        started = time.thread_time()
        answer = await call
        self.slowest = max(self.slowest, time.thread_time() - started)
        return answer

    async def until_completed(self, id_: str) -> None:
        completed = campaign_pb2.CAMPAIGN_STATUS_COMPLETED
        async with grpc.aio.insecure_channel(self._services.campaign.address) as channel:
            health: Any = health_pb2_grpc.HealthStub(channel)
            while (await self.timed(self._services.get(id_))).status != completed:
                await self.timed(health.Check(health_pb2.HealthCheckRequest()))


async def with_receivers(database_url: str, receivers: Sequence[str]) -> None:
    """`custom.bomb` is the number of the bomb that is set off for the receiver."""
    database = open_database(database_url)
    users = [a_user(SENDER_ID), *(a_user(id_, custom={"bomb": -1}) for id_ in GOOD)]
    for number, id_ in enumerate(receivers):
        users.append(a_user(id_, custom={**CUSTOM, "bomb": number}))
    await sql_chat_store(database).users.upsert(users, MOMENT)
    await database.close()


def packed(bombs: Sequence[Any]) -> Iterator[tuple[dict[str, Any], list[int]]]:
    """As few message templates as hold all bombs, each with the numbers of its own."""
    of_texts: list[tuple[str, int]] = []
    of_json: list[tuple[Any, int]] = []
    for number, bomb in enumerate(bombs):
        if number >= len(bombs) - len(JSON_BOMBS):
            of_json.append((in_json(bomb, number), number))
            if len(str(of_json)) > MAX_TEXT // 2 or bomb is bombs[-1]:
                yield attachments_together(of_json)
                of_json = []
            continue
        # a loop keeps the names that a bomb sets to itself
        armed = f"{{% for once in [1] if receiver.bomb == {number} %}}{bomb}{{% endfor %}}"
        whole = "".join(text for text, _ in of_texts) + armed
        if of_texts and (len(whole) > MAX_TEXT or parts(whole) > MAX_NODES):
            yield texts_together(of_texts)
            of_texts = []
        of_texts.append((armed, number))
    yield texts_together(of_texts)


def texts_together(armed: Sequence[tuple[str, int]]) -> tuple[dict[str, Any], list[int]]:
    return {"text": "".join(text for text, _ in armed)}, [number for _, number in armed]


def attachments_together(armed: Sequence[tuple[Any, int]]) -> tuple[dict[str, Any], list[int]]:
    attachments = [{"bomb": bomb} for bomb, _ in armed]
    return {"text": "hi", "attachments": attachments}, [number for _, number in armed]


def parts(source: str) -> int:
    return len(re.findall(r"\w+|\S", source))


def in_json(bomb: Any, number: int) -> Any:
    if isinstance(bomb, str):
        return re.sub(r"^{{(.*)}}$", rf"{{{{ (\1) if receiver.bomb == {number} }}}}", bomb)
    if isinstance(bomb, dict):
        return {key: in_json(value, number) for key, value in bomb.items()}
    return [in_json(value, number) for value in bomb]
