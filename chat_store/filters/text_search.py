"""Text without case, and where its words begin: one rule for Python, SQLite and PostgreSQL.

Case is folded character by character (Unicode simple folding, from Python's tables); nothing is
normalised, so a composed é is not an e with an accent after it. A word is a run of letters, marks
and numbers. PostgreSQL gets both as regular expressions of explicit characters, because what its
own functions do depends on how it was built and on the locale.
"""

import re
import unicodedata
from collections.abc import Iterable
from functools import cache, lru_cache
from itertools import groupby

# Beyond these Unicode has given no letter, mark or number a place.
_WRITTEN = (range(0x40000), range(0xE0000, 0xE1000))
_CASED = range(0x20000)


def fold(text: str) -> str:
    """`text` in one case; as long as before."""
    if text.isascii():
        return text.lower()
    return "".join(map(_folded, text))


@lru_cache(maxsize=4096)
def _folded(character: str) -> str:
    for form in (character.casefold(), character.lower()):
        if len(form) == 1:
            return form
    return character


def has_word(text: str) -> bool:
    """Whether there is any letter or digit."""
    return any(unicodedata.category(character)[0] in "LN" for character in text)


def trim_to_words(text: str) -> str:
    """`text` from its first word's beginning to its last one's end."""
    word_indexes = [index for index, character in enumerate(text) if _in_word(character)]
    return text[word_indexes[0] : word_indexes[-1] + 1] if word_indexes else ""


def starts_word(text: str, folded: str) -> bool:
    """Whether a word of `text` begins where `folded` (folded, and trimmed to words) stands."""
    searched = fold(text)
    index = searched.find(folded)
    while index > 0 and _in_word(text[index - 1]):
        index = searched.find(folded, index + 1)
    return index >= 0


def includes(text: str, folded: str) -> bool:
    return folded in fold(text)


def joined(texts: Iterable[str]) -> str:
    """All of them folded as one, in which `folded` is if it is in one of them.

    What is looked for has no NUL, and so is never across two.
    """
    return fold("\0".join(texts))


def marked(folded: str) -> str:
    """With a NUL where a word begins.

    A word of some text begins with `folded` (trimmed to words) if this one of `folded` is in that
    of the text.
    """
    inside = "".join(re.escape(character) for character in set(folded) if _in_word(character))
    return re.sub(f"(?<![{inside}])(?=[{inside}])", "\0", folded) if inside else folded


def _in_word(character: str) -> bool:
    return unicodedata.category(character)[0] in "LMN"


def starts_word_pattern(folded: str) -> str:
    """PostgreSQL's regular expression for `starts_word`, under the collation "C"."""
    return f"(?:^|{_outside_words()}){includes_pattern(folded)}"


def includes_pattern(folded: str) -> str:
    """PostgreSQL's regular expression for `includes`, under the collation "C"."""
    return "".join(_any_case(character) for character in folded)


def _any_case(folded: str) -> str:
    forms = _forms().get(folded)
    return _escaped(folded) if forms is None else f"[{''.join(map(_escaped, forms))}]"


def _escaped(character: str) -> str:
    if character.isascii() and character.isalnum():
        return character
    return f"\\U{ord(character):08x}"


@cache
def _forms() -> dict[str, list[str]]:
    forms: dict[str, list[str]] = {}
    for code in _CASED:
        character = chr(code)
        folded = _folded.__wrapped__(character)
        if folded != character:
            forms.setdefault(folded, [folded]).append(character)
    return forms


@cache
def _outside_words() -> str:
    inside = []
    for written in _WRITTEN:
        for in_word, run in groupby(written, lambda code: _in_word(chr(code))):
            codes = list(run)
            if in_word:
                inside.append(f"{_escaped(chr(codes[0]))}-{_escaped(chr(codes[-1]))}")
    return f"[^{''.join(inside)}]"
