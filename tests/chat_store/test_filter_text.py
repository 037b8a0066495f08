"""Searching text: in any case, from the start of any word."""

from dataclasses import replace
from typing import Any

from chat_store.database.engine import Database
from tests.chat_store.finding import (
    A_USER,
    users_found,
)

NAMES = {
    "roxy": "Roxy",
    "roxanne": "Roxanne",
    "rover": "Curiosity Rover",
    "user_name": "rover_curiosity",
    "micro": "micro",
    "school": "École",
    "decomposed": "E\u0301cole",
    "street": "STRASSE",
    "greek": "Ὀδυσσεύς",
    "turkish": "İstanbul",
    "hindi": "हिन्दी भाषा",
}


SEARCHES: list[tuple[dict[str, Any], set[str]]] = [
    ({"name": {"$autocomplete": "ro"}}, {"roxy", "roxanne", "rover", "user_name"}),
    ({"name": {"$autocomplete": "rove"}}, {"rover", "user_name"}),
    ({"name": {"$autocomplete": "CURI"}}, {"rover", "user_name"}),
    ({"name": {"$autocomplete": "curiosity ro"}}, {"rover"}),
    ({"name": {"$autocomplete": " @rox! "}}, {"roxy", "roxanne"}),
    ({"name": {"$autocomplete": "ity"}}, set()),
    ({"name": {"$autocomplete": "éc"}}, {"school"}),
    ({"name": {"$autocomplete": "e\u0301c"}}, {"decomposed"}),
    ({"name": {"$autocomplete": "cole"}}, set()),
    ({"name": {"$autocomplete": "straße"}}, set()),
    ({"name": {"$autocomplete": "ὀΔΥΣΣΕΎΣ"}}, {"greek"}),
    ({"name": {"$autocomplete": "i"}}, set()),
    ({"name": {"$autocomplete": "भा"}}, {"hindi"}),
    ({"name": {"$autocomplete": "न्दी"}}, set()),
    ({"name": {"$q": "OX"}}, {"roxy", "roxanne"}),
    ({"name": {"$q": "y r"}}, {"rover"}),
    ({"name": {"$q": "_"}}, {"user_name"}),
    ({"name": {"$q": "ÉCOLE"}}, {"school"}),
    ({"name": {"$q": "strasse"}}, {"street"}),
    ({"name": {"$q": "stanbul"}}, {"turkish"}),
]


async def test_text_is_searched_in_any_case_and_from_the_start_of_any_word(
    database: Database,
) -> None:
    people = [replace(A_USER, id=user_id, name=name) for user_id, name in NAMES.items()]
    people.append(replace(A_USER, id="nameless"))

    assert [(test, await users_found(database, people, test)) for test, _ in SEARCHES] == SEARCHES


async def test_autocomplete_over_name_and_username_finds_either(database: Database) -> None:
    people = [
        replace(A_USER, id="1", name="Roxy"),
        replace(A_USER, id="2", name="Roxanne"),
        replace(A_USER, id="3", name="Curiosity Rover", username="rover_curiosity"),
        replace(A_USER, id="4", name="Sputnik", username="mir"),
    ]

    def either(text: str) -> dict[str, Any]:
        return {"$or": [{name: {"$autocomplete": text}} for name in ("name", "username")]}

    assert await users_found(database, people, either("ro")) == {"1", "2", "3"}
    assert await users_found(database, people, either("rove")) == {"3"}
