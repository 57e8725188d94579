"""What keeps a promise about quality: a curve through all trials, the search along it, and what is reported."""

from netpress.promise.coder import Coder
from netpress.promise.result import CompressionResult, Trial, Verification
from netpress.promise.search import Budget, Search

__all__ = ["Budget", "Coder", "CompressionResult", "Search", "Trial", "Verification"]
