"""Every test here starts in an empty folder with none of our variables set."""

from tests.isolation import logging_put_back, nothing_set

__all__ = ["logging_put_back", "nothing_set"]
