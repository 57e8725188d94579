"""For one release: the networks are modules of :mod:`netpress_zoo` now, e.g. ``netpress_zoo.cifar10``."""

from __future__ import annotations

import warnings

try:
    from netpress_zoo import __path__ as __path__
except ModuleNotFoundError:
    message = "the networks of netpress are in the package netpress_zoo now: pip install netpress-zoo"
    raise ModuleNotFoundError(message, name="netpress_zoo") from None

warnings.warn("netpress.evaluate.networks has moved to netpress_zoo", DeprecationWarning, stacklevel=2)
