"""Networks that are trained here: their recipes have fixed seeds, and the weights are kept.

    python -m netpress_zoo.training charlm-decoder vgg-cifar10 --data DIR --cache weights

trains the networks of tasks into a folder, unless they are there. Without that, a network is trained when it is first
asked for, and its weights go to the user's cache folder, or to the one that the environment variable NETPRESS_CACHE
names; networks that may be given away come with the package.
"""

from __future__ import annotations

import contextlib
import contextvars
import copy
import dataclasses
import hashlib
import inspect
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import platformdirs
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import netpress
import netpress.evaluate
from netpress import InvalidConfig, Task
from netpress.evaluate.data import build
from netpress.evaluate.samples import Epochs

__all__ = ["Progress", "Recipe", "TrainedNetwork", "cache_folder", "main", "reporting", "train"]

_LOG = logging.getLogger(__name__)

Progress = Callable[[int, int, str], None]
"""Called with steps done, steps in all and the last loss in words."""

_listener: contextvars.ContextVar[Progress | None] = contextvars.ContextVar("listener", default=None)


@contextlib.contextmanager
def reporting(progress: Progress) -> Iterator[None]:
    """Call a function after every step of a training that the block starts."""
    token = _listener.set(progress)
    try:
        yield
    finally:
        _listener.reset(token)


def cache_folder() -> Path:
    """Return the folder for trained weights; it need not exist."""
    named = os.environ.get("NETPRESS_CACHE")
    return Path(named) if named else Path(platformdirs.user_cache_dir("netpress")) / "networks"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a network gets its weights: AdamW, the learning rate rises and falls in one cycle.

    Attributes:
        name: of the task and of the file.
        network: makes the network with random weights.
        batches: returns shuffled batches, the same ones each time; a run through them is an epoch.
        loss: scalar to minimise, of a network and a batch.
        epochs: runs through the batches.
        learning_rate: the largest.
        weight_decay: as in AdamW.
        largest_gradient: norm to which gradients are cut.
        minutes: about how long it takes on one core, for a message.

    Sources: Loshchilov and Hutter, Decoupled Weight Decay Regularization (2019); Smith and Topin, Super-Convergence
    (2018).
    """

    name: str
    network: Callable[[], nn.Module]
    batches: Callable[[], Epochs]
    loss: Callable[[nn.Module, Any], Tensor]
    epochs: int
    learning_rate: float
    weight_decay: float = 1e-2
    largest_gradient: float = 1.0
    minutes: float = 1.0

    def key(self) -> str:
        """Return a hash of what decides about the weights: the settings, the source of the network, the first batch."""
        digest = hashlib.sha256(repr((self.epochs, self.learning_rate, self.weight_decay)).encode())
        digest.update(repr((self.largest_gradient, len(self.batches()))).encode())
        for name in _modules_of(self.network):
            module = sys.modules.get(name)  # a task in a file of the user is not a known module
            digest.update(b"" if module is None else inspect.getsource(module).encode())
        first = next(iter(self.batches()))
        for tensor in first if isinstance(first, (tuple, list)) else (first,):
            digest.update(tensor.contiguous().numpy().tobytes())
        return digest.hexdigest()[:12]


def _modules_of(network: Callable[[], nn.Module]) -> list[str]:
    """Names of the modules that define a network: its own, and those of the classes it derives from."""
    if not inspect.isclass(network):
        return [network.__module__]
    found = dict.fromkeys(base.__module__ for base in network.__mro__)
    return [name for name in found if name.partition(".")[0] not in ("torch", "builtins")]


def train(recipe: Recipe, progress: Progress | None = None) -> nn.Module:
    """Train a network from random weights; torch's random state and its number of threads are kept.

    One thread works, so that the weights are the same on the same machine with the same version of PyTorch.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]), torch.inference_mode(False), torch.enable_grad():
            torch.manual_seed(0)
            return _fit(recipe, recipe.network().train(), progress)
    finally:
        torch.set_num_threads(threads)


def _fit(recipe: Recipe, module: nn.Module, progress: Progress | None) -> nn.Module:
    batches = recipe.batches()
    total = recipe.epochs * len(batches)
    optimizer = torch.optim.AdamW(module.parameters(), recipe.learning_rate, weight_decay=recipe.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.learning_rate, total_steps=total)
    done = 0
    for _ in range(recipe.epochs):
        for batch in batches:
            optimizer.zero_grad()
            loss = recipe.loss(module, batch)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(module.parameters(), recipe.largest_gradient)
            optimizer.step()
            schedule.step()
            done += 1
            if progress is not None:
                progress(done, total, f"loss {loss.item():.4g}")
    return module.eval()


class TrainedNetwork:
    """The network of a recipe: from a file, or trained once and kept in one.

    Args:
        recipe: how it is trained.
        cache: folder of the file; None for :func:`cache_folder`, unless there are weights in the package.
        packaged: weights that come with a package.
    """

    def __init__(
        self, recipe: Recipe, cache: str | os.PathLike[str] | None = None, packaged: Path | None = None
    ) -> None:
        self.recipe = recipe
        self._folder = None if cache is None else Path(cache)
        self._packaged = packaged
        self._module: nn.Module | None = None

    def get(self) -> nn.Module:
        """Return a copy in inference mode; trains it if there are no weights yet."""
        if self._module is None:
            self._module = self._found()
        return copy.deepcopy(self._module)

    def _found(self) -> nn.Module:
        if self._folder is None and self._packaged is not None and self._packaged.exists():
            return build(self.recipe.network, self._packaged)
        folder = cache_folder() if self._folder is None else self._folder
        path = folder / f"{self.recipe.name}-{self.recipe.key()}.safetensors"
        if path.exists():
            return build(self.recipe.network, path)
        minutes = f"{self.recipe.minutes:g} minutes" if self.recipe.minutes != 1 else "a minute"
        _LOG.warning("%s is trained first, which takes about %s; it is kept in %s", self.recipe.name, minutes, path)
        module = train(self.recipe, _listener.get())
        _save(module, path)
        return module


def _save(module: nn.Module, path: Path) -> None:
    """Write weights in one step: several processes may train the same network at the same time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        made = Path(folder) / path.name
        save_file({name: value.contiguous() for name, value in module.state_dict().items()}, made)
        made.replace(path)


def main() -> None:
    """Train the networks of tasks, with a progress bar on stderr, and evaluate them."""
    import argparse

    parser = argparse.ArgumentParser(prog="python -m netpress_zoo.training", description=main.__doc__)
    parser.add_argument("task", nargs="+", help="names of tasks")
    parser.add_argument("--data", required=True, help="folder with the data of the tasks")
    parser.add_argument("--cache", help="folder for the weights (default: the user's cache folder, or the package)")
    given = parser.parse_args()
    options = {} if given.cache is None else {"cache": given.cache}
    try:
        for name in given.task:
            _show(name, netpress.evaluate.load(name, given.data, **options))
    except (netpress.NetpressError, OSError) as error:
        raise SystemExit(f"netpress: error: {error}") from None


def _show(name: str, task: Task) -> None:
    """Make the network of a task, trained if it has to be, and print its metric."""
    import rich.console
    import rich.progress

    if task.model is None:
        raise InvalidConfig(f"task {name!r} has no model")
    with rich.progress.Progress(console=rich.console.Console(stderr=True), transient=True) as bar:
        row = bar.add_task(name, total=None)

        def advance(done: int, total: int, words: str) -> None:
            bar.update(row, completed=done, total=total, description=f"{name}, {words}")

        with reporting(advance):
            module = task.model()
    print(f"{name}: {task.metric} {task.scores(module).value:.5g} {task.unit}".rstrip())


if __name__ == "__main__":
    from netpress_zoo import training  # the module that the tasks import, whose listener they know

    training.main()
