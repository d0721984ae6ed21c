"""How much work a property test does: all of it, or the share a profile of Hypothesis sets.

Mutation testing runs the property tests a thousand times, and sets a smaller share.
"""

from typing import Final

from hypothesis import settings

_FULL: Final = 100
"""The examples of Hypothesis' own default, for which the counts in the tests are meant."""


def share(count: int) -> int:
    """Return `count` examples or events, or fewer under a profile with fewer than 100 examples."""
    return max(1, count * settings().max_examples // _FULL)
