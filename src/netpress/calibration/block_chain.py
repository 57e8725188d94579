"""A network seen as what comes before a chain of blocks, the blocks, and what comes after them.

The blocks are told apart by running the network with the ``forward`` of every block replaced: so it need not be known
how the network calls them, only that the first thing each gets and returns is the tensor that runs through all of them.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from netpress.errors import InvalidConfig, InvalidModel
from netpress.task import Batch, inputs_of

if TYPE_CHECKING:
    import torch

__all__ = ["BlockChain", "Call", "find_chain"]

Tensor = Any


def find_chain(module: torch.nn.Module, blocks: str | None = None) -> tuple[str, Any]:
    """Return the name of the list of blocks of a network, and the list.

    Args:
        module: the network.
        blocks: the name; None: the longest ``ModuleList`` or ``Sequential`` whose members all have one class and
            parameters, the outermost of those that are equally long.

    Raises:
        InvalidConfig: there is no such list.
    """
    import torch

    if blocks is not None:
        try:
            members = module.get_submodule(blocks)
        except AttributeError:
            raise InvalidConfig(f"the network has no part {blocks!r}") from None
        if not isinstance(members, (torch.nn.ModuleList, torch.nn.Sequential)) or len(members) == 0:
            raise InvalidConfig(f"part {blocks!r} of the network is not a list of blocks")
        return blocks, members
    lists = [
        (name, part)
        for name, part in module.named_modules()
        if isinstance(part, (torch.nn.ModuleList, torch.nn.Sequential))
        and len(part) > 1
        and len({type(member) for member in part}) == 1
        and all(next(member.parameters(), None) is not None for member in part)
    ]
    if not lists:
        raise InvalidConfig("the network has no list of blocks of one class; name its list with blocks=")
    return max(lists, key=lambda entry: len(entry[1]))


@dataclasses.dataclass(frozen=True, slots=True)
class Call:
    """How the network called a block: everything but the tensor that runs through the blocks."""

    arguments: tuple[Any, ...]
    named: Mapping[str, Any]
    name: str | None
    """Name of the tensor that runs through the blocks; None: it is the first argument."""

    def run(self, block: Any, hidden: Tensor) -> Tensor:
        """Call a block the same way with another tensor; return what runs on."""
        if self.name is None:
            return _first(block(hidden, *self.arguments, **self.named))
        return _first(block(*self.arguments, **{self.name: hidden, **self.named}))


def _entering(arguments: tuple[Any, ...], named: Mapping[str, Any]) -> tuple[Tensor, str | None]:
    """Return the tensor that runs through the blocks, and its name if it came with one."""
    if arguments:
        return arguments[0], None
    name = "hidden_states" if "hidden_states" in named else next(iter(named), None)
    if name is None:
        raise InvalidModel("the network calls a block without inputs")
    return named[name], name


def _first(output: Any) -> Tensor:
    found = output[0] if isinstance(output, (tuple, list)) else output
    if not hasattr(found, "shape"):
        raise InvalidModel(f"a block returned {type(output).__name__}, not a tensor or a tuple that starts with one")
    return found


class _Stop(Exception):
    """The run has seen everything that it needs."""


class BlockChain:
    """The blocks of a network, and how it gets to the first one and goes on after the last one.

    Args:
        module: the network.
        blocks: the list of its blocks.
        forward: runs the network on a batch; None: calls it with the inputs of the batch.
        device: where batches are moved.
    """

    def __init__(
        self, module: torch.nn.Module, blocks: Any, forward: Callable[[Any, Batch], Any] | None, device: Any
    ) -> None:
        self.module = module
        self.blocks = list(blocks)
        self._forward = forward
        self._device = device
        self._tail: Any = None

    def learn_outputs(self, batch: Batch) -> None:
        """Run to the end of the first block, to see what blocks return beside the tensor that runs through them."""

        original = self.blocks[0].forward

        def watch(*arguments: Any, **named: Any) -> Any:
            self._tail = original(*arguments, **named)
            raise _Stop

        with self._replaced({0: watch}), contextlib.suppress(_Stop):
            self._run(batch)
        if self._tail is None:
            raise InvalidModel("the network did not use the first of its blocks")

    def calls(self, batch: Batch) -> tuple[Tensor, list[Call]]:
        """Return the tensor that enters the first block, and how the network calls each block on a batch."""
        entered: list[Tensor] = []
        calls: list[Call] = []

        def stand_in(index: int) -> Callable[..., Any]:
            def note(*arguments: Any, **named: Any) -> Any:
                if index != len(calls):
                    raise InvalidModel("the network does not run through its blocks one after the other")
                hidden, name = _entering(arguments, named)
                calls.append(Call(arguments[1:], {k: v for k, v in named.items() if k != name}, name))
                if index == 0:
                    entered.append(hidden)
                if index == len(self.blocks) - 1:
                    raise _Stop
                return self._output(hidden)

            return note

        with self._replaced({i: stand_in(i) for i in range(len(self.blocks))}), contextlib.suppress(_Stop):
            self._run(batch)
        if len(calls) != len(self.blocks):
            raise InvalidModel(f"the network used {len(calls)} of its {len(self.blocks)} blocks")
        return entered[0], calls

    def finish(self, batch: Batch, hidden: Tensor) -> Tensor:
        """Return the output of the network on a batch if its last block returns ``hidden``."""

        def passed(*arguments: Any, **named: Any) -> Any:
            return self._output(_entering(arguments, named)[0])

        def last(*_: Any, **__: Any) -> Any:
            return self._output(hidden)

        count = len(self.blocks)
        with self._replaced({**dict.fromkeys(range(count - 1), passed), count - 1: last}):
            return self._run(batch)

    def _output(self, hidden: Tensor) -> Any:
        if isinstance(self._tail, (tuple, list)):
            return type(self._tail)((hidden, *self._tail[1:]))
        return hidden

    def _run(self, batch: Batch) -> Tensor:
        batch = _on(batch, self._device)
        if self._forward is not None:
            return self._forward(self.module, batch)
        output = self.module(**batch) if isinstance(batch, Mapping) else self.module(inputs_of(batch))
        for name in ("logits", "last_hidden_state"):
            output = getattr(output, name, output)
        return output

    @contextlib.contextmanager
    def _replaced(self, forwards: Mapping[int, Callable[..., Any]]) -> Iterator[None]:
        before = {index: vars(self.blocks[index]).get("forward") for index in forwards}
        for index, function in forwards.items():
            self.blocks[index].forward = function
        try:
            yield
        finally:
            for index, function in before.items():
                del self.blocks[index].forward
                if function is not None:
                    self.blocks[index].forward = function


def _on(batch: Batch, device: Any) -> Batch:
    if isinstance(batch, Mapping):
        return {key: _on(value, device) for key, value in batch.items()}
    if type(batch) in (tuple, list):
        return type(batch)(_on(value, device) for value in batch)
    return batch.to(device) if hasattr(batch, "to") else batch
