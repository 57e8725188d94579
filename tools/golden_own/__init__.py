"""The cases of ``tools/make_golden_own.py``: what netpress can write, each tool of it in a small stream."""

from golden_own import streams, trained, updates

__all__ = ["CASES"]

CASES = {**streams.CASES, **updates.CASES, **trained.CASES}
