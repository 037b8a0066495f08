"""Commands on terminals of any encoding: what is typed and what is printed."""

import os
import sys
from io import TextIOWrapper


def escape_unprintable() -> None:
    """Makes both outputs escape characters that their encoding lacks, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def as_typed(argument: str) -> str:
    """Returns an argument that Python could not decode by the locale, decoded as UTF-8.

    Raises ValueError if it is not UTF-8 either.
    """
    if not any("\udc80" <= c <= "\udcff" for c in argument):
        return argument
    try:
        return os.fsencode(argument).decode()
    except UnicodeError as error:
        raise ValueError("is not UTF-8") from error
