import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from chat_store.database.engine import Database
from chat_store.errors import InvalidInputError, UserNotFoundError
from chat_store.filters.fields import USER_FIELDS
from chat_store.filters.parsing import parse_filter
from chat_store.models import User, UserState, WriteMode
from chat_store.paging import NEWEST_FIRST, PageRequest
from chat_store.sql.stores import sql_chat_store
from chat_store.store import UserStore

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
LATER = NOON + timedelta(hours=1)
EVERYONE = parse_filter({}, USER_FIELDS)

ANNA = User(
    id="anna",
    name="Anna Ä",
    username="anna1",
    email="anna@example.com",
    role="admin",
    language="en",
    image="https://example.com/anna.png",
    teams=("red", "blue"),
    custom={"country": "USA", "age": 31, "tags": ["a", None, True], "at": {"city": "Austin"}},
    banned=True,
    shadow_banned=True,
    push_preferences={"chat_level": "mentions"},
    created_at=datetime(2020, 2, 29, 23, 59, 59, 999_999, tzinfo=UTC),
)


@pytest.fixture
def users(database: Database) -> UserStore:
    return sql_chat_store(database).users


async def found(users: UserStore, *, include_deactivated: bool = False) -> list[str]:
    page = await users.query(
        EVERYONE, PageRequest(10, NEWEST_FIRST), include_deactivated=include_deactivated
    )
    return [user.id for user in page.items]


async def test_a_user_comes_back_as_it_was_given(users: UserStore) -> None:
    (stored,) = await users.upsert([ANNA], NOON)

    assert stored == replace(ANNA, updated_at=NOON)
    assert await users.get("anna") == stored


async def test_what_is_left_out_has_its_default(users: UserStore) -> None:
    (stored,) = await users.upsert([User(id="bob")], NOON)

    assert stored == User(id="bob", created_at=NOON, updated_at=NOON)


async def test_users_come_back_in_the_order_given_and_the_last_of_two_counts(
    users: UserStore,
) -> None:
    given = [User(id="b", name="1"), User(id="a"), User(id="b", name="2")]

    stored = await users.upsert(given, NOON)

    assert [(user.id, user.name) for user in stored] == [("b", "2"), ("a", None), ("b", "2")]


async def test_a_replaced_user_keeps_only_its_creation(users: UserStore) -> None:
    await users.upsert([ANNA], NOON)

    (stored,) = await users.upsert([User(id="anna", name="Anna")], LATER)

    assert stored == User(id="anna", name="Anna", created_at=ANNA.created_at, updated_at=LATER)


async def test_a_replaced_user_takes_a_given_creation(users: UserStore) -> None:
    await users.upsert([ANNA], NOON)

    (stored,) = await users.upsert([User(id="anna", created_at=NOON)], LATER)

    assert stored.created_at == NOON


async def test_inserting_leaves_who_is_there_alone(users: UserStore) -> None:
    await users.upsert([ANNA], NOON)

    stored = await users.upsert([User(id="anna"), User(id="bob")], LATER, WriteMode.INSERT)

    assert stored[0] == replace(ANNA, updated_at=NOON)
    assert stored[1].created_at == LATER


@pytest.mark.parametrize("mode", WriteMode)
async def test_a_deactivated_user_who_is_written_stays_deactivated(
    users: UserStore, mode: WriteMode
) -> None:
    await users.upsert([User(id="away")], NOON)
    await users.deactivate(["away"], NOON)

    (away,) = await users.upsert([User(id="away")], LATER, mode)

    assert away.deactivated_at == NOON


async def test_a_deleted_user_is_not_replaced_and_nobody_of_the_same_call_is(
    users: UserStore,
) -> None:
    await users.upsert([User(id="gone")], NOON)
    await users.delete(["gone"], NOON)

    with pytest.raises(InvalidInputError, match=r"users\[1\].id: was deleted; RestoreUsers"):
        await users.upsert([User(id="new"), User(id="gone", name="Again")], LATER)

    assert set(await users.by_id(["new", "gone"])) == {"gone"}
    assert (await users.get("gone")).updated_at == NOON
    kept = await users.upsert([User(id="gone", name="Again")], LATER, WriteMode.INSERT)
    assert (kept[0].deleted_at, kept[0].name) == (NOON, None)


async def test_a_refused_user_fails_no_other_call_at_the_same_moment(users: UserStore) -> None:
    await users.upsert([User(id="gone")], NOON)
    await users.delete(["gone"], NOON)
    calls = [users.upsert([User(id=id_)], LATER) for id_ in ("a", "gone", "b", "c")]

    results = await asyncio.gather(*calls, return_exceptions=True)

    assert [isinstance(result, InvalidInputError) for result in results] == [
        False,
        True,
        False,
        False,
    ]
    assert set(await users.by_id(["a", "b", "c"])) == {"a", "b", "c"}


async def test_reactivated_users_are_as_they_were(users: UserStore) -> None:
    await users.upsert([User(id="a"), User(id="b"), User(id="gone")], NOON)
    before = await users.get("a")
    await users.deactivate(["a", "gone"], NOON)
    await users.delete(["gone"], NOON)

    assert await users.reactivate(["a", "a", "b", "gone", "nobody"], LATER) == 1
    assert await users.reactivate(["a"], LATER) == 0

    assert await users.get("a") == replace(before, updated_at=LATER)
    assert (await users.get("gone")).deactivated_at == NOON


async def test_restored_users_are_as_they_were_before_they_were_deleted(users: UserStore) -> None:
    await users.upsert([ANNA, User(id="away"), User(id="there")], NOON)
    await users.deactivate(["away"], NOON)
    before = await users.by_id(["anna", "away"])
    await users.delete(["anna", "away"], NOON)

    assert await users.restore(["anna", "away", "there", "nobody", "anna"], LATER) == 2
    assert await users.restore(["anna"], LATER) == 0

    after = await users.by_id(["anna", "away"])
    assert after == {id_: replace(user, updated_at=LATER) for id_, user in before.items()}
    (anna,) = await users.upsert([User(id="anna", name="Anna II")], LATER)
    assert (anna.name, anna.deleted_at) == ("Anna II", None)


async def test_an_unknown_user_is_an_error_that_names_the_id(users: UserStore) -> None:
    with pytest.raises(UserNotFoundError) as caught:
        await users.get("nobody")

    assert caught.value.user_id == "nobody"


async def test_looking_up_ids_finds_those_that_exist(users: UserStore) -> None:
    await users.upsert([User(id="a"), User(id="b")], NOON)
    await users.delete(["b"], NOON)

    assert set(await users.by_id(["a", "b", "c", "a"])) == {"a", "b"}
    assert await users.by_id([]) == {}


async def test_picked_users_have_their_state_and_the_fields_asked_for(users: UserStore) -> None:
    await users.upsert([ANNA, User(id="away"), User(id="gone")], NOON)
    await users.deactivate(["away"], NOON)
    await users.delete(["gone"], NOON)

    picked = await users.pick(["anna", "away", "gone", "nobody"], ["name", "custom"])

    assert {id_: user.state for id_, user in picked.items()} == {
        "anna": UserState.ACTIVE,
        "away": UserState.DEACTIVATED,
        "gone": UserState.DELETED,
    }
    assert picked["anna"].values == (ANNA.name, ANNA.custom)


async def test_deactivating_counts_who_was_active(users: UserStore) -> None:
    await users.upsert([User(id="a"), User(id="b"), User(id="gone")], NOON)
    await users.delete(["gone"], NOON)

    assert await users.deactivate(["a", "a", "gone", "nobody"], LATER) == 1
    assert await users.deactivate(["a", "b"], LATER) == 1

    a = await users.get("a")
    assert (a.deactivated_at, a.updated_at) == (LATER, LATER)
    assert (await users.get("gone")).deactivated_at is None


async def test_deleting_counts_who_was_there_and_keeps_them_known(users: UserStore) -> None:
    await users.upsert([User(id="a"), User(id="away")], NOON)
    await users.deactivate(["away"], NOON)

    assert await users.delete(["a", "away", "nobody"], LATER) == 2
    assert await users.delete(["a"], LATER) == 0

    a = await users.get("a")
    assert (a.deleted_at, a.updated_at) == (LATER, LATER)


async def test_a_query_leaves_out_the_deleted_and_unless_asked_the_deactivated(
    users: UserStore,
) -> None:
    await users.upsert([User(id="a"), User(id="away"), User(id="gone")], NOON)
    await users.deactivate(["away"], NOON)
    await users.delete(["gone"], NOON)

    assert await found(users) == ["a"]
    assert await found(users, include_deactivated=True) == ["a", "away"]


async def test_writers_of_the_same_users_do_not_hold_each_other_up(users: UserStore) -> None:
    """In either order: PostgreSQL would find a deadlock."""
    given = [User(id=f"user-{number:03}") for number in range(300)]

    async with asyncio.TaskGroup() as tasks:
        for turn in range(6):
            order = given if turn % 2 else given[::-1]
            tasks.create_task(users.upsert(order, NOON))

    assert len(await users.by_id(user.id for user in given)) == 300
