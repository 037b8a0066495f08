"""All pages of a query."""

from typing import Any

from tests.values.everything import Everything

_NAMES = ("id", "target_id", "user_id")


async def walk(everything: Everything, request: Any, records: str) -> list[list[Any]]:
    """First on by its next tokens, and then back by its previous ones; each page has something."""
    answer = await everything.ask(request)
    pages = [list(getattr(answer, records))]
    while answer.next_page_token:
        request.page_token = answer.next_page_token
        answer = await everything.ask(request)
        pages.append(list(getattr(answer, records)))
    back = [pages[-1]]
    while answer.prev_page_token:
        request.page_token = answer.prev_page_token
        answer = await everything.ask(request)
        back.append(list(getattr(answer, records)))
    assert all(pages)
    assert all(back)
    assert _names(back[::-1]) == _names(pages)
    return pages


def _names(pages: list[list[Any]]) -> list[str]:
    """Not the whole records: segments are counted meanwhile."""
    return [
        next(getattr(record, name) for name in _NAMES if hasattr(record, name))
        for page in pages
        for record in page
    ]
