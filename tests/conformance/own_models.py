"""Small models made by exact arithmetic: they have the same bits on every machine, with every NumPy.

Integers come from a mixer of 64 bits, and become floats by powers of two. No generator of NumPy and no function of the
C library takes part, since either may change its results.
"""

from __future__ import annotations

import math
from typing import Any

import ml_dtypes
import numpy as np

Array = np.ndarray[Any, Any]
Model = dict[str, Array]


def bits(shape: tuple[int, ...], seed: int) -> Array:
    """Random integers of 64 bits. Source: SplitMix64 (Steele, Lea and Flood, 2014)."""
    x = np.arange(1, math.prod(shape) + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(seed << 40)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (x ^ (x >> np.uint64(31))).reshape(shape)


def integers(shape: tuple[int, ...], seed: int, low: int, high: int) -> Array:
    """Random integers from ``low`` to ``high`` - 1, int64."""
    return (bits(shape, seed) % np.uint64(high - low)).astype(np.int64) + low


def weights(shape: tuple[int, ...], seed: int, exponent: int = 0) -> Array:
    """Float32 of both signs, peaked at 0 as weights are, with a spread of about ``0.06 * 2**exponent``."""
    a, b, c = (integers(shape, 3 * seed + i, 0, 256) for i in range(3))
    return ((a - b) * c).astype(np.float32) * np.float32(2.0 ** (exponent - 18))


def positive(shape: tuple[int, ...], seed: int) -> Array:
    """Float32 from 1/4 to 2, as the variances and factors of a batch norm."""
    return integers(shape, seed, 64, 512).astype(np.float32) * np.float32(2.0**-8)


def network(seed: int = 0) -> Model:
    """A convolution, its batch norm, and a linear layer; the names are those of a torch module."""
    return {
        "conv.weight": weights((8, 4, 3, 3), seed + 1),
        "conv.bias": weights((8,), seed + 2, -1),
        "bn.weight": positive((8,), seed + 3),
        "bn.bias": weights((8,), seed + 4),
        "bn.running_mean": weights((8,), seed + 5, 1),
        "bn.running_var": positive((8,), seed + 6),
        "bn.num_batches_tracked": np.array(1000, np.int64),
        "fc.weight": weights((16, 24), seed + 7, 1),
        "fc.bias": weights((16,), seed + 8),
    }


def changed(model: Model, seed: int, exponent: int = -4) -> Model:
    """The same model after some training: everything has moved a little."""
    new = {}
    for i, (name, value) in enumerate(model.items()):
        if value.dtype == np.float32:
            # Variances and factors stay above 0.
            step = weights(value.shape, seed + i, exponent)
            new[name] = np.asarray(value * (1 + step) if value.size and value.min() > 0 else value + step, np.float32)
        else:
            new[name] = np.asarray(value + 100, value.dtype)
    return new


def vectors() -> Model:
    """A matrix for itself and one value for itself."""
    return {"w": weights((32, 20), 11), "step": np.array(0.125, np.float32)}


def rows() -> Model:
    """Weights with rows of zeros, and a matrix of which little is left."""
    dense, sparse = weights((30, 16), 21), weights((30, 16), 22)
    dense[::3] = 0
    sparse[np.abs(sparse) < 0.0625] = 0
    return {"rows.weight": dense, "sparse.weight": sparse}


def few_values() -> Model:
    """Weights that take seven values, as after clustering, and a constant."""
    return {
        "w": (integers((30, 24), 31, -3, 4) * 2.0**-4).astype(np.float32),
        "ones": np.ones((6, 5), np.float32),
    }


def blocks_of_all_sizes() -> Model:
    """Matrices smaller and larger than the blocks of each scan order, and one that they do not divide."""
    return {
        "small": weights((5, 7), 41),
        "even": weights((16, 32), 42),
        "odd": weights((67, 21), 43),
        "kernel": weights((9, 3, 3, 3), 44),
    }


def layer() -> Model:
    """A linear layer with a local scaling, a bias and a batch norm."""
    return {
        "fc.weight": weights((16, 30), 51),
        "fc.weight_scaling": positive((16,), 52),
        "fc.bias": weights((16,), 53),
        "bn.weight": positive((16,), 54),
        "bn.bias": weights((16,), 55),
        "bn.running_mean": weights((16,), 56),
        "bn.running_var": positive((16,), 57),
        "head": weights((4, 16), 58),
    }


def factors() -> Model:
    """A decomposed weight, with what belongs to it."""
    return {
        "fc.weight_G": weights((24, 4), 61, 1),
        "fc.weight_H": weights((4, 30), 62, 1),
        "fc.weight_scaling": positive((24,), 63),
        "fc.bias": weights((24,), 64),
    }


def all_types() -> Model:
    """Every type that comes back, with its extremes where it is coded without loss."""
    model: Model = {"bool": integers((3, 5), 71, 0, 2).astype(np.bool_)}
    for name in ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"):
        dtype = np.dtype(name)
        value = bits((4, 6), 72).astype(np.uint64).view(np.int64).astype(dtype)
        value[0, 0], value[0, 1] = np.iinfo(dtype).min, np.iinfo(dtype).max
        model[name] = value
    model["float64"] = weights((6, 7), 73).astype(np.float64)
    model["float16"] = weights((6, 7), 74).astype(np.float16)
    model["bfloat16"] = weights((6, 7), 75).astype(ml_dtypes.bfloat16)
    for name in ("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu"):
        model[name] = positive((5, 6), 76).astype(getattr(ml_dtypes, name))
    return model


def odd_shapes() -> Model:
    """Scalars and empty tensors of several types, and tensors of many dimensions."""
    return {
        "scalar": np.array(0.625, np.float32),
        "scalar.bool": np.array(True),
        "scalar.uint64": np.array(2**64 - 1, np.uint64),
        "scalar.bfloat16": np.array(1.5, ml_dtypes.bfloat16),
        "empty": np.zeros((0,), np.float32),
        "empty.rows": np.zeros((3, 0, 2), np.int64),
        "one": np.array([[[-0.75]]], np.float32),
        "six": weights((2, 3, 2, 1, 3, 2), 81),
        "zeros": np.zeros((4, 4), np.float32),
        "constant": np.full((5, 3), 0.375, np.float32),
    }


def odd_names() -> Model:
    """Names that the syntax cannot hold as they are, and names that look like those of other tensors."""
    names = ("", "~", "a/b c", "Gewicht äöü", "重み", "line\nbreak", "a", "a.upper", "w", "w_G", "w_H", "x" * 300)
    model: Model = {name: weights((3, 4), 91 + i) for i, name in enumerate(names)}
    model["a"] = bits((2, 3), 92).view(np.int64)
    return model


def extremes() -> Model:
    """Floats near the ends of their range, and far outliers."""
    model = {
        "large": weights((6, 8), 101, 60),
        "tiny": weights((6, 8), 102, -40),
        "outlier": weights((12, 10), 103),
        "negative zero": np.full((2, 3), -0.0, np.float32),
    }
    model["outlier"][3, 4] = 1000
    return model
