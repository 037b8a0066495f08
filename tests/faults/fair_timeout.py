"""A time limit that is fair on a machine that stands still now and then."""

import time

# what a step takes at most; a longer one is a pause of the whole machine, servers and all
_LONGEST_STEP = 6.0


class FairTimeout:
    """Begins to run out at once."""

    def __init__(self, seconds: float) -> None:
        self._left = seconds
        self._last = time.monotonic()

    def spend(self) -> None:
        """To be called in every step of what is waited for. Raises `TimeoutError` at the end."""
        now = time.monotonic()
        self._left -= min(now - self._last, _LONGEST_STEP)
        self._last = now
        if self._left < 0:
            raise TimeoutError
