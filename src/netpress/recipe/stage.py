"""What all stages of a recipe share."""

from __future__ import annotations

import abc
import dataclasses
import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from netpress.errors import InvalidConfig, RecipeError
from netpress.parallel import Progress
from netpress.task import Task

if TYPE_CHECKING:
    from netpress.recipe.candidate import Candidate

__all__ = ["Stage", "stage_from_dict"]

_STAGES: dict[str, type[Stage]] = {}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage(abc.ABC):
    """One step of a recipe: frozen settings, and what they do to a network.

    A subclass is a frozen dataclass whose fields are plain values; its name in files is its class name in snake case.
    """

    name: ClassVar[str] = ""
    seed: int = 0
    """Of all random decisions."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", cls.__name__).lower()
        _STAGES[cls.name] = cls

    def needs(self) -> tuple[str, ...]:
        """Return the fields of the task that this stage cannot do without."""
        return ()

    def check(self, module: Any, task: Task) -> None:
        """Raise if the stage cannot run on this network; called before anything starts.

        Raises:
            RecipeError: a layer does not exist, a setting does not fit, or the task lacks something.
        """
        for field in self.needs():
            if getattr(task, field) is None:
                raise RecipeError(f"the task has no {field}, which it needs", stage=self.name)

    @abc.abstractmethod
    def run(self, candidate: Candidate, progress: Progress | None) -> dict[str, Any]:
        """Change the candidate; return facts for the report, ready for JSON."""

    def to_dict(self) -> dict[str, Any]:
        """Return the name and the settings that differ from their defaults, ready for JSON and TOML."""
        values: dict[str, Any] = {"stage": self.name}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            default = field.default
            if field.default_factory is not dataclasses.MISSING:
                default = field.default_factory()
            if value != default:
                values[field.name] = dict(value) if isinstance(value, Mapping) else value
                if isinstance(value, tuple):
                    values[field.name] = list(value)
        return values

    def invalid(self, message: str) -> InvalidConfig:
        """Return the error for a setting that is out of range."""
        return InvalidConfig(f"stage {self.name}: {message}")

    def check_number(self, field: str, low: float, high: float, *, optional: bool = False) -> None:
        """Raise unless a setting is a number from ``low`` to ``high``, or None where that is allowed."""
        value = getattr(self, field)
        if value is None and optional:
            return
        number = isinstance(value, (int, float)) and not isinstance(value, bool) and not math.isnan(value)
        if not number or not low <= value <= high:
            raise self.invalid(f"{field} is {value!r}, not a number from {low:g} to {high:g}")

    def check_rates(self) -> None:
        """Bring ``learning_rate`` into a tuple, and raise unless it is a pair of numbers above 0."""
        object.__setattr__(self, "learning_rate", tuple(self.__dict__["learning_rate"]))
        rates = self.__dict__["learning_rate"]
        if len(rates) != 2 or any(not 0 < rate <= 1e3 for rate in rates):
            raise self.invalid("learning_rate is a pair of numbers above 0: the first and the last")

    def check_choice(self, field: str, choices: tuple[str, ...]) -> None:
        """Raise unless a setting is one of the given words."""
        if getattr(self, field) not in choices:
            raise self.invalid(f"{field} is {getattr(self, field)!r}, not one of {', '.join(choices)}")


def stage_from_dict(values: Mapping[str, Any]) -> Stage:
    """Inverse of :meth:`Stage.to_dict`.

    Raises:
        InvalidConfig: the stage or a setting is unknown, or a value is out of range.
    """
    settings = dict(values)
    name = settings.pop("stage", None)
    if name not in _STAGES:
        raise InvalidConfig(f"there is no stage {name!r}; known are {', '.join(sorted(_STAGES))}")
    kind = _STAGES[name]
    known = {field.name: field for field in dataclasses.fields(kind)}
    for key, value in settings.items():
        if key not in known:
            raise InvalidConfig(f"stage {name} has no setting {key!r}; known are {', '.join(sorted(known))}")
        if isinstance(value, list):
            settings[key] = tuple(value)
    try:
        return kind(**settings)
    except TypeError as error:
        raise InvalidConfig(f"stage {name}: {error}") from None
