"""Text search without case, and by beginnings of words: one rule for Python, SQLite, PostgreSQL.

Case is folded character by character (Unicode simple folding, from Python's tables). Nothing is
normalised, so a composed é differs from an e with a combining accent. A word is a run of letters,
marks and numbers. PostgreSQL gets both rules as regular expressions of explicit characters,
because its own functions depend on its build and on the locale.
"""

import re
import unicodedata
from collections.abc import Iterable
from functools import cache, lru_cache
from itertools import groupby

# Unicode has assigned no letter, mark or number beyond these.
_WRITTEN = (range(0x40000), range(0xE0000, 0xE1000))
_CASED = range(0x20000)


def fold(text: str) -> str:
    """Returns `text` in one case, of the same length."""
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
    """Returns whether the text has any letter or digit."""
    return any(unicodedata.category(character)[0] in "LN" for character in text)


def trim_to_words(text: str) -> str:
    """Returns `text` from the beginning of its first word to the end of its last."""
    word_indexes = [index for index, character in enumerate(text) if _in_word(character)]
    return text[word_indexes[0] : word_indexes[-1] + 1] if word_indexes else ""


def starts_word(text: str, folded: str) -> bool:
    """Returns whether `folded` (trimmed to words) occurs in `text` where a word begins."""
    searched = fold(text)
    index = searched.find(folded)
    while index > 0 and _in_word(text[index - 1]):
        index = searched.find(folded, index + 1)
    return index >= 0


def includes(text: str, folded: str) -> bool:
    return folded in fold(text)


def joined(texts: Iterable[str]) -> str:
    """Folds all texts into one, which contains a folded text if one of them does.

    They are joined by NULs, which searched texts never contain, so no match spans two of them.
    """
    return fold("\0".join(texts))


def marked(folded: str) -> str:
    """Returns the text with a NUL before each word.

    If the marked text contains the marked `folded` (trimmed to words), `folded` occurs in the text
    where a word begins.
    """
    inside = "".join(re.escape(character) for character in set(folded) if _in_word(character))
    return re.sub(f"(?<![{inside}])(?=[{inside}])", "\0", folded) if inside else folded


def _in_word(character: str) -> bool:
    return unicodedata.category(character)[0] in "LMN"


def starts_word_pattern(folded: str) -> str:
    """Returns PostgreSQL's regular expression for `starts_word`, under the collation "C"."""
    return f"(?:^|{_outside_words()}){includes_pattern(folded)}"


def includes_pattern(folded: str) -> str:
    """Returns PostgreSQL's regular expression for `includes`, under the collation "C"."""
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
