"""What encoder and decoder keep from one update to the next.

Both ends hold a state of their own and change it in the same way: each update that carries a tensor replaces the
tensor's integers, counts its depth in the parameter update tree up, and adds its non-zero positions to the history.

Source: ISO/IEC 15938-17, parameter update tree, temporal context modelling, history-dependent significance.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from netpress.errors import BaseMismatch

__all__ = ["UpdateState"]


@dataclasses.dataclass
class UpdateState:
    """Integers, depths, ids and histories by tensor name; ``device_id`` is None until the first update."""

    levels: dict[str, npt.NDArray[np.int32]] = dataclasses.field(default_factory=dict)
    depths: dict[str, int] = dataclasses.field(default_factory=dict)
    parameter_ids: dict[str, int] = dataclasses.field(default_factory=dict)
    histories: dict[str, npt.NDArray[np.uint8]] = dataclasses.field(default_factory=dict)
    device_id: int | None = None

    def copy(self) -> UpdateState:
        """Return a state that can be changed without changing this one; they share arrays, which nothing changes."""
        return UpdateState(
            levels=dict(self.levels),
            depths=dict(self.depths),
            parameter_ids=dict(self.parameter_ids),
            histories=dict(self.histories),
            device_id=self.device_id,
        )

    def update(self, name: str, levels: npt.NDArray[np.int32], parameter_id: int | None, *, in_update: bool) -> None:
        """Take over one coded tensor. ``in_update``: it is a difference, so that it belongs to the history.

        Raises:
            BaseMismatch: the tensor had another size or another parameter id before.
        """
        known = self.levels.get(name)
        if known is not None and known.size != levels.size:
            raise BaseMismatch(f"tensor {name!r} has {levels.size} values, but {known.size} in the update before")
        if parameter_id is not None and self.parameter_ids.setdefault(name, parameter_id) != parameter_id:
            raise BaseMismatch(f"tensor {name!r} has another parameter id than in the update before")
        self.levels[name] = levels
        self.depths[name] = self.depths.get(name, 0) + 1
        if in_update:
            seen = (levels != 0).astype(np.uint8).reshape(-1)
            if name in self.histories:
                seen |= self.histories[name]
            self.histories[name] = seen

    def check_device(self, device_id: int) -> None:
        """Note the sender of the updates, or check that it is still the same (0 counts as not known).

        Raises:
            BaseMismatch: it is another one.
        """
        if not self.device_id:
            self.device_id = device_id
        elif self.device_id != device_id:
            raise BaseMismatch(f"an update of device {device_id}, but the state is that of device {self.device_id}")
