"""The settings of an encoder: one frozen dataclass with a JSON round trip."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from netpress.errors import InvalidConfig, InvalidModel
from netpress.parameters import Block

__all__ = ["DEFAULT_NONWEIGHT_QP", "EncodeConfig"]

DEFAULT_NONWEIGHT_QP = -75
"""qp of biases and batch-norm parameters when only ``qp`` is given: a step of 2.4e-6."""

_REFERENCE_QP = -38
# What a qp means should not change much from effort to effort; see docs/notes/rate-distortion.md.
_DEFAULT_RATE_WEIGHT = 0.25
_BEST_RATE_WEIGHT = 0.5
_SMALL_UNIT = 65536
_OTHER_UNARY_LENGTHS_MINUS1 = (0, 2, 5, 19)

# NNCodec's names of options that have another name here.
_REFERENCE_NAMES = {
    "opt_qp": "optimize_qp",
    "int_quant_bw": "bit_depth",
    "bitdepth": "bit_depth",
    "bnf": "fold_batch_norm",
    "compress_differences": "differences",
    "general_profile_idc": "profile",
    "raw": "raw_float",
}


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class EncodeConfig:
    """How a model is coded. All fields have defaults; two matter to most people: ``qp`` and ``effort``.

    Raises:
        InvalidConfig: a value is outside its range, or two options contradict each other.

    Example:
        >>> EncodeConfig(qp=-30).qp_density
        2
    """

    qp: int | None = None
    """Quantisation parameter of weights: the step size is 1 at 0 and doubles every ``2**qp_density``. None: each tensor
    gets a step that suits its own spread (see ``netpress.quantize.automatic_steps.automatic_qp``)."""
    effort: int = 5
    """1 (fastest) to 9 (smallest). 1-2: no parameter search; 3-4: parameter search; from 5: rate-distortion optimised
    quantisation, row skipping where it pays; from 6: several unary lengths for tensors of up to 65536 values; from 7:
    refined rates that weigh twice as much, so that the same qp has a little more error; from 8: several unary
    lengths for all tensors, codebooks where they pay; 9: rates refined twice as often."""
    preset: str = "default"
    """``"default"``, or ``"reference"``: every decision as NNCodec takes it, byte for byte."""
    qp_density: int = 2
    """Fractional bits of the qp, 0..7: ``2**qp_density`` steps per octave."""
    nonweight_qp: int | None = None
    """qp of everything that is not a weight. None: -75 if ``qp`` is given, else chosen per tensor."""
    qp_per_tensor: Mapping[str, int] | None = None
    """qp by tensor name, before all other rules."""
    allocation: str = "equal"
    """``"equal"``: all weights get ``qp``. ``"size"``: the step of a weight is proportional to the square root of its
    number of values, with ``qp`` as the mean, and everything else is 3.5 octaves finer than ``qp``, variances as fine
    as they need, unless ``nonweight_qp`` is given. Smaller at equal quality of the outputs; a qp then says less about
    any one tensor. ``"sensitivity"``: weights that are given quantised have steps by what their errors do, as
    :func:`netpress.quantize_model` chooses them; the rest is as with ``"size"``. A calibration implies it."""
    optimize_qp: bool = False
    """Coarser steps for large weights of little variance (data-free)."""
    base_qp: int = 0
    """Offset of all coded qps, -4096..4095: moves the codable range."""
    bit_depth: int | None = None
    """Levels of at most this many bits, 1..31, instead of a qp. Not with dependent quantisation."""
    use_dq: bool = True
    """Dependent (trellis) quantisation."""
    lambda_scale: float | None = None
    """Weight of the rate in the quantiser; 0 switches it off, 1 is the slope of the rate-distortion curve at the
    error that the step leaves. None: by ``effort``."""
    codebook_mode: int | None = None
    """0 never, 1 always, 2 where it pays. None: by ``effort``."""
    param_opt: bool | None = None
    """Search the estimator parameters of the contexts. None: by ``effort``."""
    cabac_unary_length_minus1: int | None = None
    """Greater-than flags per weight, minus one, 0..255. None: by ``effort``."""
    scan_order: int = 0
    """0 row by row; 1..4 in blocks of 8, 16, 32, 64, which gives entry points."""
    row_skipping: bool | None = None
    """Signal all-zero rows. None: where it pays."""
    fold_batch_norm: bool = False
    """Fold batch norms into a scaling and a bias of the layer before; decoding restores all four parameters."""
    batch_norm_epsilon: float | None = None
    """Epsilon of the batch norms that are folded, where the source does not tell it: a torch module does, a file does
    not. PyTorch's default is 1e-5, that of Keras 1e-3."""
    sparsity: float = 0.0
    """Share of weights that are set to zero first, 0..1."""
    struct_spars_factor: float = 0.0
    """With ``sparsity``: rows whose mean magnitude is below this share of the tensor's are set to zero."""
    blocks: tuple[Block, ...] = ()
    """Parameters that travel in one data unit: a layer's weight, scaling, bias, batch norm, or its two factors."""
    raw_float: tuple[str, ...] = ()
    """Names of float tensors that are stored as plain float32, without loss or gain; NNCodec cannot decode them."""
    profile: int = 1
    """general_profile_idc: 1, or 0 for the first edition, which NNCodec 1.0 reads."""
    payload_variant: str | None = None
    """Of the two ways to read profile 0: ``"1.0"`` as NNCodec 1.0 does, ``"2"`` as NNCodec 2 does. None: ``"1.0"``,
    or ``"2"`` for the reference preset."""
    differences: bool = False
    """The source holds differences to an earlier model: signals parents and leaves all-zero tensors out."""
    tca: bool = False
    """Temporal contexts from the update before (needs ``differences`` and an :class:`netpress.Encoder`)."""
    hdsp: bool = False
    """History-dependent significance (needs ``differences`` and an :class:`netpress.Encoder`)."""
    pre_signalling: bool = False
    """Sets nnr_pre_flag."""
    device_id: int = 0
    """Sender of an update, >= 0."""
    checksums: bool | None = None
    """End the stream with checksums, which other decoders ignore. None: files of :func:`netpress.save` get them,
    streams of :func:`netpress.encode` do not."""
    topology_storage_format: int | None = 0
    """Code of the topology unit; None leaves the unit out, and with it the record that restores types and shapes."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "blocks", tuple(self.blocks))
        object.__setattr__(self, "raw_float", tuple(self.raw_float))
        self._check_ranges()
        self._check_types()
        if self.preset not in ("default", "reference"):
            raise InvalidConfig(f"preset is 'default' or 'reference', not {self.preset!r}")
        if self.preset == "reference" and self.qp is None:
            raise InvalidConfig("the reference preset needs a qp; EncodeConfig.reference() fills in its default")
        if self.allocation not in ("equal", "size", "sensitivity"):
            raise InvalidConfig(f"allocation is 'equal', 'size' or 'sensitivity', not {self.allocation!r}")
        if self.allocation != "equal" and (self.qp is None or self.is_reference or self.optimize_qp or self.bit_depth):
            raise InvalidConfig(
                f"allocation {self.allocation!r} needs a qp, and goes without bit_depth, optimize_qp and reference"
            )
        if self.payload_variant not in (None, "1.0", "2"):
            raise InvalidConfig(f"payload_variant is '1.0' or '2', not {self.payload_variant!r}")
        if self.checksums and not self.can_carry_record:
            raise InvalidConfig("checksums need a topology unit: not with the reference preset or without a format")
        if self.tca and not self.differences and self.preset != "reference":
            raise InvalidConfig("tca needs differences=True: temporal contexts exist in updates only")
        if self.hdsp and not self.differences and self.preset != "reference":
            raise InvalidConfig("hdsp needs differences=True: histories exist in updates only")
        if self.profile == 0 and (
            self.differences or self.tca or self.hdsp or self.pre_signalling or self.row_skipping
        ):
            raise InvalidConfig("profile 0 has no updates and no row skipping; use profile=1")
        if self.bit_depth is not None and self.use_dq:
            # Clipped levels leave the trellis path: the decoder would get other values.
            object.__setattr__(self, "use_dq", False)

    def _check_ranges(self) -> None:
        span = 1 << (5 + self.qp_density) if 0 <= _integer("qp_density", self.qp_density) <= 7 else 0
        ranges: dict[str, tuple[float, float]] = {
            "qp_density": (0, 7),
            "effort": (1, 9),
            "base_qp": (-4096, 4095),
            "bit_depth": (1, 31),
            "codebook_mode": (0, 2),
            "cabac_unary_length_minus1": (0, 255),
            "scan_order": (0, 4),
            "profile": (0, 1),
            "device_id": (0, 2**31 - 1),
            "topology_storage_format": (0, 255),
            "qp": (self.base_qp - span, self.base_qp + span - 1),
            "nonweight_qp": (self.base_qp - span, self.base_qp + span - 1),
        }
        for name, (low, high) in ranges.items():
            value = getattr(self, name)
            if value is None:
                continue
            if not low <= _integer(name, value) <= high:
                raise InvalidConfig(f"{name} is {value}, outside {low:g}..{high:g}")
        for name, high in (
            ("batch_norm_epsilon", 1.0),
            ("sparsity", 1.0),
            ("struct_spars_factor", 1e9),
            ("lambda_scale", 1e9),
        ):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, (int, float)) and 0 <= value <= high):
                raise InvalidConfig(f"{name} is {value!r}, not a number from 0 to {high:g}")

    def _check_types(self) -> None:
        for name in ("use_dq", "optimize_qp", "fold_batch_norm", "differences", "tca", "hdsp", "pre_signalling"):
            if not isinstance(getattr(self, name), bool):
                raise InvalidConfig(f"{name} is True or False, not {getattr(self, name)!r}")
        for name in ("param_opt", "row_skipping", "checksums"):
            if getattr(self, name) not in (True, False, None):
                raise InvalidConfig(f"{name} is True, False or None, not {getattr(self, name)!r}")
        if self.qp_per_tensor is not None:
            for tensor, qp in self.qp_per_tensor.items():
                _integer(f"qp_per_tensor[{tensor!r}]", qp)

    @property
    def is_reference(self) -> bool:
        """Whether every decision is NNCodec's."""
        return self.preset == "reference"

    @property
    def can_carry_record(self) -> bool:
        """Whether the stream may have a record in a topology unit of its own."""
        return not self.is_reference and self.topology_storage_format is not None

    @property
    def searches_parameters(self) -> bool:
        """Whether the estimator parameters of the contexts are searched."""
        return self.effort >= 3 if self.param_opt is None else self.param_opt

    @property
    def rate_weight(self) -> float:
        """The ``lambda_scale`` in force."""
        if self.lambda_scale is not None:
            return float(self.lambda_scale)
        if self.effort < 5 or not self.use_dq:
            return 0.0
        return _BEST_RATE_WEIGHT if self.effort >= 7 else _DEFAULT_RATE_WEIGHT

    @property
    def rate_passes(self) -> int:
        """How often the quantiser runs with the statistics of the pass before."""
        if self.effort < 7:
            return 1
        return 10 if self.effort == 9 else 5

    @property
    def uses_codebooks(self) -> int:
        """The ``codebook_mode`` in force."""
        return (2 if self.effort >= 8 else 0) if self.codebook_mode is None else self.codebook_mode

    @property
    def main_unary_length_minus1(self) -> int:
        """The ``cabac_unary_length_minus1`` in force, or the first that is tried."""
        if self.cabac_unary_length_minus1 is not None:
            return self.cabac_unary_length_minus1
        # The second edition infers 9 where a header has none, which saves a byte.
        return 9 if self.profile == 1 else 10

    def unary_lengths_minus1(self, size: int) -> tuple[int, ...]:
        """Return the values of cabac_unary_length_minus1 to try for a data unit of ``size`` values."""
        main = self.main_unary_length_minus1
        if self.cabac_unary_length_minus1 is not None or self.effort < (6 if size <= _SMALL_UNIT else 8):
            return (main,)
        return (main, *_OTHER_UNARY_LENGTHS_MINUS1)

    @property
    def is_first_edition_1_0(self) -> bool:
        """Whether payloads are those of NNCodec 1.0."""
        variant = self.payload_variant or ("2" if self.is_reference else "1.0")
        return self.profile == 0 and variant == "1.0"

    @property
    def signals_parents(self) -> bool:
        """mps_parent_signalling_enabled_flag."""
        return self.differences or self.pre_signalling

    @classmethod
    def reference(cls, **options: Any) -> EncodeConfig:
        """Return the settings with which NNCodec 2.1.3 makes the same stream, byte for byte.

        Args:
            **options: fields of this class, or NNCodec's names (``opt_qp``, ``bnf``, ``int_quant_bw``,
                ``compress_differences`` ...). Defaults are NNCodec's: qp -38, dependent quantisation, context
                search on, lambda 0, nonweight_qp -75. As there, a ``nonweight_qp`` of 0 or None is ``qp`` less two
                octaves.

        Raises:
            InvalidConfig: an option is unknown or out of range.
        """
        renamed = {_REFERENCE_NAMES.get(name, name): value for name, value in options.items()}
        if not renamed.get("bit_depth"):
            renamed["bit_depth"] = None
        defaults: dict[str, Any] = {
            "qp": _REFERENCE_QP,
            "nonweight_qp": DEFAULT_NONWEIGHT_QP,
            "lambda_scale": 0.0,
            "codebook_mode": 0,
            "param_opt": True,
            "row_skipping": False,
            "cabac_unary_length_minus1": 10,
        }
        values = {**defaults, **renamed, "preset": "reference"}
        if not values["nonweight_qp"]:
            values["nonweight_qp"] = values["qp"] - (2 << values.get("qp_density", 2))
        return cls.from_dict(values)

    def replace(self, **changes: Any) -> EncodeConfig:
        """Return a copy with some fields changed.

        Raises:
            InvalidConfig: a field is unknown or out of range.
        """
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return type(self).from_dict({**values, **changes})

    def to_dict(self) -> dict[str, Any]:
        """Return the fields that differ from their defaults, ready for JSON."""
        result: dict[str, Any] = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value == field.default:
                continue
            if field.name == "blocks":
                value = [dataclasses.asdict(block) for block in value]
            elif field.name == "raw_float":
                value = list(value)
            elif isinstance(value, Mapping):
                value = dict(value)
            result[field.name] = value
        return result

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> EncodeConfig:
        """Inverse of :meth:`to_dict`.

        Raises:
            InvalidConfig: a key is unknown, or a value is out of range.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        unknown = [name for name in values if name not in known]
        if unknown:
            raise InvalidConfig(f"unknown option {unknown[0]!r}; known are {', '.join(sorted(known))}")
        values = dict(values)
        try:
            values["blocks"] = tuple(b if isinstance(b, Block) else Block(**b) for b in values.get("blocks", ()))
        except (TypeError, InvalidModel) as error:
            raise InvalidConfig(f"blocks: {error}") from None
        return cls(**values)


def _integer(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        try:
            return int(value.__index__()) if not isinstance(value, bool) else _fail(name, value)
        except AttributeError:
            return _fail(name, value)
    return value


def _fail(name: str, value: Any) -> int:
    raise InvalidConfig(f"{name} is {value!r}, not an integer")
