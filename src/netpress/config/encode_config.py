"""The settings of an encoder: one frozen dataclass with a JSON round trip."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, TypeVar

from netpress.config.effort import Tools, tools_in_force
from netpress.config.names import OLD_NAMES, REFERENCE_NAMES, current_names, warn_of_old_name
from netpress.config.option import Option, as_tuple, check_value, describe, option
from netpress.config.quality import QUALITIES
from netpress.errors import InvalidConfig, InvalidModel
from netpress.parameters import Block

__all__ = ["DEFAULT_NONWEIGHT_QP", "EncodeConfig"]

DEFAULT_NONWEIGHT_QP = -75
"""qp of biases and batch-norm parameters when only ``qp`` is given: a step of 2.4e-6."""

_REFERENCE_QP = -38

_Class = TypeVar("_Class")


def _qp_range(config: EncodeConfig) -> tuple[int, int]:
    span = 1 << (5 + config.qp_density)
    return config.base_qp - span, config.base_qp + span - 1


def _with_names_checked(cls: type[_Class]) -> type[_Class]:
    """Let the constructor take old names, and say what is near an unknown one."""
    generated = cls.__init__

    @functools.wraps(generated)
    def checked(self: Any, **options: Any) -> None:
        options = current_names(options, _NAMES, OLD_NAMES, warn=True)
        if options.get("bit_depth") is not None:
            if options.get("use_dq"):
                raise InvalidConfig("bit_depth clips levels, which dependent quantisation cannot; leave out use_dq")
            options["use_dq"] = False
        generated(self, **options)

    cls.__init__ = checked  # type: ignore[method-assign]
    return cls


@_with_names_checked
@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class EncodeConfig:
    """How a model is coded. All fields have defaults; two matter to most people: ``qp`` and ``effort``.

    Raises:
        InvalidConfig: an option is unknown, a value is outside its range, or two options contradict each other.

    Example:
        >>> EncodeConfig(qp=-30).qp_density
        2
    """

    qp: int | None = option(
        None,
        group="quality",
        range=_qp_range,
        flag="--qp",
        help="Quality: lower is finer, and four less halve the steps (default: fine, and chosen for each tensor).",
    )
    """Quantisation parameter of weights: the step size is 1 at 0 and doubles every ``2**qp_density``. None: each tensor
    gets a step that suits its own spread (see ``netpress.quantize.automatic_steps.automatic_qp``)."""
    quality: str = option(
        "default",
        group="quality",
        choices=tuple(QUALITIES),
        flag="--quality",
        metavar="small|default|high",
        help="How near a model stays to the original where no qp is given.",
    )
    """How near a model stays to the original where no ``qp`` is given: ``"small"`` (weights of mean size at 38 dB),
    ``"default"`` (43 dB) or ``"high"`` (54 dB); see [quality](quality.md)."""
    effort: int = option(5, group="quality", range=(1, 9), flag="--effort", help="1 is fastest, 9 smallest.")
    """1 (fastest) to 9 (smallest); [effort](effort.md) says what each level switches on. From 7 the rate weighs twice
    as much, so that the same qp has a little more error."""
    preset: str = option(
        "default",
        group="stream",
        choices=("default", "reference"),
        help="reference: decide as the standard's reference software does.",
    )
    """``"default"``, or ``"reference"``: every decision as NNCodec takes it, byte for byte."""
    qp_density: int = option(
        2,
        group="tools",
        range=(0, 7),
        flag="--qp-density",
        help="2 to this power steps of qp double the step size.",
    )
    """Fractional bits of the qp: ``2**qp_density`` steps per octave."""
    nonweight_qp: int | None = option(
        None,
        group="quality",
        range=_qp_range,
        flag="--nonweight-qp",
        help="Quality of biases, norms and all other parameters that are not weights.",
    )
    """qp of everything that is not a weight. None: -75 if ``qp`` is given, else chosen per tensor."""
    qp_per_tensor: Mapping[str, int] | None = option(None, group="quality", items=int, help="qp of single tensors.")
    """qp by tensor name, before all other rules."""
    allocation: str = option(
        "equal",
        group="tools",
        choices=("equal", "size", "sensitivity"),
        flag="--allocation",
        metavar="equal|size",
        help="size: coarser steps for weights with more values, with --qp as the mean.",
    )
    """``"equal"``: all weights get ``qp``. ``"size"``: the step of a weight is proportional to the square root of its
    number of values, with ``qp`` as the mean, and everything else is 3.5 octaves finer than ``qp``, variances as fine
    as they need, unless ``nonweight_qp`` is given. Smaller at equal quality of the outputs; a qp then says less about
    any one tensor. ``"sensitivity"``: weights that are given quantised have steps by what their errors do, as
    ``netpress.quantize_model`` chooses them; the rest is as with ``"size"``. A calibration implies it."""
    optimize_qp: bool = option(
        False,
        group="tools",
        flag="--optimize-qp/--no-optimize-qp",
        help="Coarser steps for large weights whose values spread little.",
    )
    """Coarser steps for large weights of little variance (data-free)."""
    base_qp: int = option(0, group="stream", range=(-4096, 4095), help="Offset of all coded qps.")
    """Offset of all coded qps: moves the codable range."""
    bit_depth: int | None = option(
        None,
        group="quality",
        range=(1, 31),
        flag="--bit-depth",
        help="Code weights as integers of at most this many bits, instead of --qp.",
    )
    """Levels of at most this many bits instead of a qp. Switches dependent quantisation off."""
    use_dq: bool = option(True, group="tools", flag="--dq/--no-dq", help="Dependent quantisation (trellis).")
    """Dependent (trellis) quantisation. Not with ``bit_depth``."""
    error_feedback: bool = option(
        True,
        group="tools",
        flag="--error-feedback/--no-error-feedback",
        help="Choose levels so that the outputs of layers keep their values, as far as that is known without data.",
    )
    """Choose the levels of a row so that its errors cancel in the outputs of the layer, as far as its inputs are known
    without data: see [quality](quality.md). Not in updates, and not without ``use_dq``."""
    lambda_scale: float | None = option(
        None,
        group="tools",
        effort=("rate_weight",),
        range=(0, 1e9),
        flag="--lambda-scale",
        help="Weight of the rate against the error; 0 looks at the error only.",
    )
    """Weight of the rate in the quantiser; 0 switches it off, 1 is the slope of the rate-distortion curve at the
    error that the step leaves. None: by ``effort``."""
    codebook_mode: int | None = option(
        None,
        group="tools",
        effort=("codebooks",),
        range=(0, 2),
        flag="--codebook",
        help="Codebooks: 0 never, 1 always, 2 where they pay.",
    )
    """0 never, 1 always, 2 where it pays. None: by ``effort``."""
    context_search: bool | None = option(
        None,
        group="tools",
        effort=("context_search",),
        flag="--context-search/--no-context-search",
        old_flag="--param-opt/--no-param-opt",
        help="Search the parameters of the entropy coder's contexts.",
    )
    """Search the estimator parameters of the contexts. None: by ``effort``."""
    unary_length: int | None = option(
        None,
        group="tools",
        effort=("unary_lengths_small", "unary_lengths"),
        range=(1, 256),
        flag="--unary-length",
        help="Length of the unary part of a coded magnitude (default: 10).",
    )
    """Greater-than flags per weight. None: by ``effort``."""
    scan_order: int = option(
        0,
        group="tools",
        range=(0, 4),
        flag="--scan-order",
        help="Scan of the values: 0 by rows, 1 to 4 in blocks of 8 to 64 rows.",
    )
    """0 row by row; 1..4 in blocks of 8, 16, 32, 64, which gives entry points."""
    row_skipping: bool | None = option(
        None,
        group="tools",
        effort=("row_skipping",),
        flag="--row-skipping/--no-row-skipping",
        help="Signal rows of zeros.",
    )
    """Signal all-zero rows. None: by ``effort``, and where it pays."""
    fold_batch_norm: bool = option(
        False,
        group="tools",
        flag="--fold-batch-norm/--no-fold-batch-norm",
        help="Merge batch norms into the layers before them.",
    )
    """Fold batch norms into a scaling and a bias of the layer before; decoding restores all four parameters."""
    batch_norm_epsilon: float | None = option(
        None,
        group="tools",
        range=(0, 1),
        flag="--batch-norm-epsilon",
        metavar="EPS",
        help="Epsilon of the batch norms to merge, which a file does not tell (PyTorch: 1e-5, Keras: 1e-3).",
    )
    """Epsilon of the batch norms that are folded, where the source does not tell it: a torch module does, a file does
    not. PyTorch's default is 1e-5, that of Keras 1e-3."""
    sparsity: float = option(
        0.0,
        group="quality",
        range=(0, 1),
        flag="--sparsity",
        help="Share of weights to set to zero, from 0 to 1.",
    )
    """Share of weights that are set to zero first. An update then always codes differences."""
    row_threshold: float = option(
        0.0,
        group="quality",
        range=(0, 1e9),
        flag="--row-threshold",
        old_flag="--struct-spars-factor",
        help="With --sparsity: set rows to zero whose mean is below this share of the tensor's.",
    )
    """With ``sparsity``: rows whose mean magnitude is below this share of the tensor's are set to zero."""
    blocks: tuple[Block, ...] = option((), group="stream", items=Block, help="Parameters that travel in one data unit.")
    """Parameters that travel in one data unit: a layer's weight, scaling, bias, batch norm, or its two factors."""
    raw_float: tuple[str, ...] = option((), group="stream", items=str, help="Tensors that are stored as plain float32.")
    """Names of float tensors that are stored as plain float32, without loss or gain; NNCodec cannot decode them."""
    profile: int = option(
        1,
        group="stream",
        range=(0, 1),
        flag="--profile",
        help="Profile of the standard; 0 is its first edition.",
    )
    """general_profile_idc: 1, or 0 for the first edition, which NNCodec 1.0 reads."""
    payload_variant: str | None = option(
        None, group="stream", choices=("1.0", "2"), help="Which reading of profile 0 to write."
    )
    """Of the two ways to read profile 0: ``"1.0"`` as NNCodec 1.0 does, ``"2"`` as NNCodec 2 does. None: ``"1.0"``,
    or ``"2"`` for the reference preset."""
    differences: bool = option(False, group="updates", help="The source holds differences.")
    """The source holds differences to an earlier model: signals parents and leaves all-zero tensors out."""
    temporal_contexts: bool = option(False, group="updates", help="Contexts from the update before.")
    """Temporal contexts from the update before (needs ``differences`` and a ``netpress.Encoder``)."""
    history_contexts: bool = option(False, group="updates", help="Contexts from all updates before.")
    """History-dependent significance (needs ``differences`` and a ``netpress.Encoder``)."""
    pre_signalling: bool = option(False, group="updates", help="Sets nnr_pre_flag.")
    """Sets nnr_pre_flag."""
    device_id: int = option(0, group="updates", range=(0, 2**31 - 1), help="Sender of an update.")
    """Sender of an update."""
    checksums: bool | None = option(None, group="stream", help="End the stream with checksums.")
    """End the stream with checksums, which other decoders ignore. None: files of ``netpress.save`` get them, streams of
    ``netpress.encode`` do not."""
    topology_storage_format: int | None = option(0, group="stream", range=(0, 255), help="Code of the topology unit.")
    """Code of the topology unit; None leaves the unit out, and with it the record that restores types and shapes."""
    tools: Tools = dataclasses.field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name in ("blocks", "raw_float"):
            object.__setattr__(self, name, as_tuple(name, getattr(self, name)))
        for name, described in _CHECKED:
            check_value(name, described, self)
        if self.is_reference and self.qp is None:
            raise InvalidConfig("the reference preset needs a qp; EncodeConfig.reference() fills in its default")
        if self.quality != "default" and (self.qp is not None or self.bit_depth is not None):
            raise InvalidConfig(f"quality {self.quality!r} goes without qp and bit_depth, which say it instead")
        if self.allocation != "equal" and (self.qp is None or self.is_reference or self.optimize_qp or self.bit_depth):
            raise InvalidConfig(
                f"allocation {self.allocation!r} needs a qp, and goes without bit_depth, optimize_qp and reference"
            )
        if self.checksums and not self.can_carry_record:
            raise InvalidConfig("checksums need a topology unit: not with the reference preset or without a format")
        for name in ("temporal_contexts", "history_contexts"):
            if getattr(self, name) and not self.differences and not self.is_reference:
                raise InvalidConfig(f"{name} needs differences=True: there are none outside of updates")
        updates = self.differences or self.temporal_contexts or self.history_contexts or self.pre_signalling
        if self.profile == 0 and (updates or self.row_skipping):
            raise InvalidConfig("profile 0 has no updates and no row skipping; use profile=1")
        object.__setattr__(self, "tools", tools_in_force(self))

    @classmethod
    def options(cls) -> dict[str, Option]:
        """Return what is known about each field: range, group, help, flags on the command line."""
        return dict(_DESCRIBED)

    @property
    def is_reference(self) -> bool:
        """Whether every decision is NNCodec's."""
        return self.preset == "reference"

    @property
    def feeds_errors_back(self) -> bool:
        """Whether errors of weights are fed back: not where their values are differences, or zero for a purpose.

        Nor without the trellis, whose user wants the nearest level; the search knows the scan by rows only.
        """
        plain = not self.is_reference and self.use_dq and self.sparsity == 0 and self.scan_order == 0
        return self.error_feedback and plain and not self.differences

    @property
    def can_carry_record(self) -> bool:
        """Whether the stream may have a record in a topology unit of its own."""
        return not self.is_reference and self.topology_storage_format is not None

    @property
    def is_first_edition_1_0(self) -> bool:
        """Whether payloads are those of NNCodec 1.0."""
        variant = self.payload_variant or ("2" if self.is_reference else "1.0")
        return self.profile == 0 and variant == "1.0"

    @property
    def signals_parents(self) -> bool:
        """mps_parent_signalling_enabled_flag."""
        return self.differences or self.pre_signalling

    def __getattr__(self, name: str) -> Any:
        """Read an option by its old name."""
        if name not in OLD_NAMES:
            raise AttributeError(f"EncodeConfig has no option {name!r}")
        warn_of_old_name(name)
        value = getattr(self, OLD_NAMES[name])
        return value - 1 if name == "cabac_unary_length_minus1" and value is not None else value

    @classmethod
    def reference(cls, **options: Any) -> EncodeConfig:
        """Return the settings with which NNCodec 2.1.3 makes the same stream, byte for byte.

        Args:
            **options: fields of this class, or NNCodec's names (``opt_qp``, ``bnf``, ``int_quant_bw``,
                ``compress_differences``, ``param_opt``, ``tca``, ``hdsp`` ...). Defaults are NNCodec's: qp -38,
                dependent quantisation, context search on, lambda 0, nonweight_qp -75. As there, a ``nonweight_qp`` of
                0 or None is ``qp`` less two octaves.

        Raises:
            InvalidConfig: an option is unknown or out of range.
        """
        renamed = current_names(options, _NAMES, {**REFERENCE_NAMES, **OLD_NAMES}, warn=False)
        if not renamed.get("bit_depth"):
            renamed["bit_depth"] = None
        else:
            renamed["use_dq"] = False  # NNCodec clips levels of the trellis too, which then decode to other values
        defaults: dict[str, Any] = {
            "qp": _REFERENCE_QP,
            "nonweight_qp": DEFAULT_NONWEIGHT_QP,
            "lambda_scale": 0.0,
            "codebook_mode": 0,
            "context_search": True,
            "row_skipping": False,
            "unary_length": 11,
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
        changes = current_names(changes, _NAMES, OLD_NAMES, warn=True)
        values = {field.name: getattr(self, field.name) for field in _OPTIONS}
        if changes.get("bit_depth") is not None and "use_dq" not in changes:
            del values["use_dq"]
        return type(self).from_dict({**values, **changes})

    @classmethod
    def with_options(cls, config: EncodeConfig | None, options: Mapping[str, Any]) -> EncodeConfig:
        """Return the settings that a function was given: some of these, and single options that overrule them.

        Args:
            config: settings; None for the defaults.
            options: fields by name.

        Raises:
            InvalidConfig: ``config`` is something else, or an option is unknown or out of range.
        """
        if config is None:
            config = cls()
        elif not isinstance(config, EncodeConfig):
            raise InvalidConfig(f"config is an EncodeConfig, not {config!r}; single options go by name, such as qp=-30")
        return config.replace(**options) if options else config

    def to_dict(self) -> dict[str, Any]:
        """Return the fields that differ from their defaults, ready for JSON."""
        result: dict[str, Any] = {}
        for field in _OPTIONS:
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
        """Inverse of :meth:`to_dict`; names that options had in earlier versions are known.

        Raises:
            InvalidConfig: a key is unknown, or a value is out of range.
        """
        options = current_names(values, _NAMES, OLD_NAMES, warn=False)
        try:
            options["blocks"] = tuple(b if isinstance(b, Block) else Block(**b) for b in options.get("blocks", ()))
        except (TypeError, InvalidModel) as error:
            raise InvalidConfig(f"blocks: {error}") from None
        return cls(**options)


_OPTIONS = tuple(field for field in dataclasses.fields(EncodeConfig) if field.init)
_DESCRIBED = {field.name: describe(field) for field in _OPTIONS}
# A range that depends on other options is looked at when those are known to be right.
_CHECKED = sorted(_DESCRIBED.items(), key=lambda entry: callable(entry[1].range))
_NAMES = frozenset(_DESCRIBED)
