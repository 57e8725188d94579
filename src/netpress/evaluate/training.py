"""For one release: the training of small networks is :mod:`netpress_zoo.training` now.

    python -m netpress.evaluate.training TASK... --data DIR

goes on working where netpress-zoo is installed.
"""

from __future__ import annotations

import warnings

try:
    from netpress_zoo.training import Progress, Recipe, TrainedNetwork, cache_folder, main, reporting, train
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] != "netpress_zoo":
        raise
    message = "the training of networks is in the package netpress_zoo now: pip install netpress-zoo"
    if __name__ == "__main__":
        raise SystemExit(f"netpress: error: {message}") from None
    raise ModuleNotFoundError(message, name="netpress_zoo") from None

__all__ = ["Progress", "Recipe", "TrainedNetwork", "cache_folder", "main", "reporting", "train"]

if __name__ == "__main__":
    main()
else:
    warnings.warn("netpress.evaluate.training has moved to netpress_zoo.training", DeprecationWarning, stacklevel=2)
