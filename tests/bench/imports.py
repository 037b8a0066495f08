"""How fast the users come in through the import, beside the bare driver that has ready-made rows."""

import time
from collections.abc import Iterator

from chat_store.imports.lines import CHUNK_RECORDS
from tests.bench.bare import open_bare
from tests.bench.places import Line, Place


def measure(place: Place) -> Iterator[Line]:
    seconds, bare = place.import_seconds(), _bare_seconds(place)
    yield Line(
        "import",
        f"{place.users / seconds:,.0f} users/s",
        f"{seconds:.1f} s, one round; {bare / seconds:.2f} of the "
        f"bare insert's {place.users / bare:,.0f}",
    )


def _bare_seconds(place: Place) -> float:
    """In transactions of the import's size; without the time to read what is to be written."""
    seconds = 0.0
    with open_bare(place.fresh()) as imported, open_bare(place.empty()) as empty:
        for chunk in imported.read("users", "SELECT * FROM users", CHUNK_RECORDS):
            begin = time.perf_counter()
            empty.insert(chunk)
            seconds += time.perf_counter() - begin
        ((written,),) = empty.fetch("SELECT count(*) FROM users")
    assert written == place.users, f"{written} users of {place.users} were imported"
    return seconds
