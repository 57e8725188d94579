"""The functions that most people need: encode, decode, save, load, open."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import numpy.typing as npt

from netpress.calibration.quantizer import quantize_corrected
from netpress.calibration.statistics import Calibration
from netpress.codec.check import Check, CheckedStream, checked
from netpress.codec.decoder import Decoder
from netpress.codec.difference import apply_difference, make_difference, read_model
from netpress.codec.encoder import Encoder
from netpress.codec.index import BytesLike, index_stream
from netpress.codec.restore import outputs_of, reconstructed_outputs
from netpress.codec.stream import Stream, open_stream
from netpress.config import EncodeConfig
from netpress.errors import InvalidBitstream, InvalidConfig, InvalidModel
from netpress.files import atomic_writer
from netpress.formats import open_source
from netpress.limits import DecodeLimits
from netpress.parallel import Progress
from netpress.quantize.tensor import QuantizedTensor

__all__ = ["decode", "encode", "load", "open", "save"]

Array = npt.NDArray[Any]


def encode(
    source: Any,
    config: EncodeConfig | None = None,
    *,
    base: Any = None,
    quantized: Mapping[str, QuantizedTensor] | None = None,
    calibration: Calibration | None = None,
    check: Any = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> bytes:
    """Compress a model, or a single tensor in a dictionary, into an NNC bitstream.

    Args:
        source: a dictionary of arrays, a torch module or state dictionary, or the path of a model file; see
            :func:`netpress.formats.open_source`.
        config: settings; None for the defaults, which keep what a model does: see docs/quality.md.
        base: the model that the receiver holds already, in the same forms: only the difference is coded, or the new
            value of a tensor where that is smaller. What did not change is left out.
        quantized: integers of tensors that are quantised already, by name; the others are quantised as the settings
            say. With ``base``, the integers are those of differences.
        calibration: what :func:`netpress.calibrate` collected: the weights are quantised so that the outputs of the
            network change least, as :func:`netpress.quantize_corrected` does it. Needs ``qp``, then that of a weight of
            average sensitivity; other parameters get a qp 3.5 octaves finer unless ``nonweight_qp`` says otherwise. Not
            with ``base`` or ``quantized``.
        check: inputs for the network, or a :class:`Check` that says more: the outputs before and after are compared,
            and where they change by more than 5 %, the tensors that do most get finer steps. What was found is in the
            attribute ``check`` of the stream, a :class:`CheckResult`. Needs a torch module; not with ``base`` or
            ``quantized``.
        executor: runs the tensors, e.g. of a Dask client; None uses all cores with threads.
        progress: called with values done, values in all and the name of the tensor just finished.
        **options: fields of :class:`EncodeConfig`; they overrule ``config``.

    Returns:
        The stream. It is the same for every number of threads.

    Raises:
        InvalidModel: a tensor cannot be coded (NaN, unsupported type ...); names it.
        InvalidConfig: an option is unknown or out of range.

    Example:
        >>> import numpy, netpress
        >>> data = netpress.encode({"w": numpy.linspace(-1, 1, 4096, dtype="f4").reshape(64, 64)}, qp=-20)
        >>> netpress.decode(data)["w"].shape
        (64, 64)
    """
    config = EncodeConfig.with_options(config, options)
    if check is None:
        sink = io.BytesIO()  # not in a function of its own: warnings name the caller's line
        _encode_to(sink, source, config, base, quantized, calibration, executor, progress)
        return sink.getvalue()
    if base is not None or quantized is not None:
        raise InvalidConfig("a check excludes a base and quantised tensors")
    return _checked(source, config, Check.of(check), calibration, executor, progress)


def _checked(
    source: Any,
    config: EncodeConfig,
    check: Check,
    calibration: Calibration | None,
    executor: Executor | None,
    progress: Progress | None,
) -> CheckedStream:
    """Encode a network and look at its outputs."""
    with open_source(source) as model:
        module: Any = model.torch_module
    if module is None:
        raise InvalidConfig("a check runs the network, so it needs a torch module, not its tensors alone")

    def encoded(finer: Mapping[str, int]) -> bytes:
        qps = {**(config.qp_per_tensor or {}), **finer}
        own = config.replace(qp_per_tensor=qps) if finer else config
        sink = io.BytesIO()
        _encode_to(sink, source, own, None, None, calibration, executor, progress)
        return sink.getvalue()

    def decoded(data: bytes) -> dict[str, Array]:
        return decode(data, reconstruct=True, executor=executor)

    def steps(data: bytes) -> dict[str, int]:
        with Stream(data) as stream:
            return {tensor.name: tensor.qp for tensor in stream.info().tensors if tensor.qp is not None}

    return checked(module, check, encoded, decoded, steps, config)


def _encode_to(
    sink: Any,
    source: Any,
    config: EncodeConfig,
    base: Any,
    quantized: Mapping[str, QuantizedTensor] | None,
    calibration: Calibration | None,
    executor: Executor | None,
    progress: Progress | None,
) -> None:
    if calibration is not None:
        if base is not None or quantized is not None:
            raise InvalidConfig("a calibration excludes a base and quantised tensors")
        source, config, quantized = _calibrated(source, config, calibration)
    with open_source(source) as model:
        if base is None:
            Encoder(config).encode_to(sink, model, executor=executor, progress=progress, quantized=quantized)
            return
        with open_source(base) as old:
            difference = make_difference(model, read_model(old))
        new = set(quantized or {}) & difference.complete
        if new:
            raise InvalidModel("was given quantised, but its new value is coded and no difference", tensor=min(new))
        encoder = Encoder(config.replace(differences=True))
        encoder.encode_to(sink, difference, executor=executor, progress=progress, quantized=quantized)


def _calibrated(
    source: Any, config: EncodeConfig, calibration: Calibration
) -> tuple[Any, EncodeConfig, Mapping[str, QuantizedTensor]]:
    """Return the model with its weights quantised, and the settings for the rest."""
    if config.qp is None or config.is_reference or config.bit_depth is not None or config.differences:
        raise InvalidConfig(
            "calibrated quantisation needs a qp (netpress.compress finds one), and excludes the reference preset, "
            "bit_depth and differences"
        )
    rate = {} if config.lambda_scale is None else {"lambda_scale": float(config.lambda_scale)}
    model = quantize_corrected(
        source,
        calibration,
        qp=config.qp,
        qps=config.qp_per_tensor,
        qp_density=config.qp_density,
        use_dq=config.use_dq,
        passes=config.tools.rate_passes,
        **rate,
    )
    return model.source, config.replace(allocation="sensitivity", optimize_qp=False), model.quantized


def decode(
    data: BytesLike,
    *,
    base: Any = None,
    dimensions: Mapping[str, Sequence[int]] | None = None,
    limits: DecodeLimits | None = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
    reconstruct: bool = False,
) -> dict[str, Array]:
    """Restore a model from a stream.

    Names, order, shapes and types are those that the encoder was given; streams of other encoders give float32 and
    int32 tensors in the order of the stream.

    Args:
        data: the stream.
        base: for an update, the model that it builds on, in the forms that :func:`encode` takes. Without it an update
            gives the differences.
        dimensions: shapes by name, for streams whose tensor dimensions travel out of band.
        limits: bounds on what the stream may ask for.
        executor: runs the tensors; None uses all cores with threads.
        progress: as for :func:`encode`.
        reconstruct: give the tensors of the original network: multiply local scalings into their weights and the
            factors of decomposed weights together, and undo what a recipe noted.

    Raises:
        InvalidBitstream: the stream is damaged; tells where.
        UnsupportedBitstream: the stream uses syntax that is not implemented.
        LimitExceeded: the stream asks for more than ``limits`` allow.
        BaseMismatch: ``base`` is not the model that the update was made for.
    """
    limits = limits or DecodeLimits()
    index = index_stream(data, limits, dimensions)
    index.check_all()
    units, record = index.units, index.record
    outputs = reconstructed_outputs(units, record, limits) if reconstruct else outputs_of(units, record)
    decoded = Decoder(limits).decode_units(units, executor, progress)
    arrays = [array for unit in decoded for array in unit.tensors.values()]
    restored = {output.name: output.build([arrays[i] for i in output.sources]) for output in outputs}
    if base is None:
        return restored
    complete = frozenset(output.name for output in outputs if set(output.sources) & record.complete)
    with open_source(base) as old:
        return apply_difference(restored, record, complete, read_model(old))


def save(
    source: Any,
    path: str | os.PathLike[str],
    config: EncodeConfig | None = None,
    *,
    base: Any = None,
    quantized: Mapping[str, QuantizedTensor] | None = None,
    calibration: Calibration | None = None,
    check: Any = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> int:
    """Compress a model into a file; arguments as for :func:`encode`.

    The file appears under its name only when it is complete; after an error nothing is left behind. It carries
    checksums unless ``checksums=False`` says otherwise.

    Returns:
        The number of bytes written.

    Raises:
        OSError: the file cannot be written; and what :func:`encode` raises.
    """
    config = EncodeConfig.with_options(config, options)
    if config.checksums is None and config.can_carry_record:
        config = config.replace(checksums=True)
    with atomic_writer(path) as file:
        if check is None:
            _encode_to(file, source, config, base, quantized, calibration, executor, progress)
        else:
            arguments: dict[str, Any] = {"base": base, "quantized": quantized, "calibration": calibration}
            file.write(encode(source, config, check=check, executor=executor, progress=progress, **arguments))
        return file.tell()


def load(
    path: str | os.PathLike[str],
    *,
    base: Any = None,
    dimensions: Mapping[str, Sequence[int]] | None = None,
    limits: DecodeLimits | None = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
    reconstruct: bool = False,
) -> dict[str, Array]:
    """Restore a model from a file; arguments and errors as for :func:`decode`.

    Raises:
        OSError: the file cannot be read.
    """
    data = Path(path).read_bytes()
    if not data:
        raise InvalidBitstream("the file is empty", offset=0)
    return decode(
        data,
        base=base,
        dimensions=dimensions,
        limits=limits,
        executor=executor,
        progress=progress,
        reconstruct=reconstruct,
    )


def open(
    path: str | os.PathLike[str],
    *,
    base: Any = None,
    dimensions: Mapping[str, Sequence[int]] | None = None,
    limits: DecodeLimits | None = None,
) -> Stream:
    """Open a file for reading single tensors: a mapping from names to arrays, each decoded on access.

    Args:
        path: the file; only its headers are read.
        base, dimensions, limits: as for :func:`decode`.

    Raises:
        InvalidBitstream, UnsupportedBitstream, LimitExceeded: as for :func:`decode`.
        OSError: the file cannot be read.
    """
    old = None
    if base is not None:
        with open_source(base) as model:
            old = read_model(model)
    return open_stream(path, base=old, dimensions=dimensions, limits=limits)
