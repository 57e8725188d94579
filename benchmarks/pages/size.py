"""Tables of sizes at equal settings, from sizes.json."""

from __future__ import annotations

from typing import Any

ZSTD_LEVEL = 19


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Return the lines of the table of what was measured at equal settings."""
    lines = [
        "| model | float32 bytes | qp | NNCodec | netpress | difference | weight error NNCodec / netpress | fed back |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    return lines + [
        f"| {r['model']} | {r['float_bytes']:,} | {r['qp']} | {r['nncodec']:,} | {r['netpress']:,} "
        f"| {100 * (r['netpress'] / r['nncodec'] - 1):+.2f} % "
        f"| {r['nncodec_weight_error_db']:.2f} / {r['netpress_weight_error_db']:.2f} dB | {r['netpress_fed_back']:,} |"
        for r in rows
    ]


def lossless_table(report: dict[str, Any]) -> list[str]:
    """Return the lines of the table of sizes without loss, beside the finest qp that was measured."""
    finest = min(row["qp"] for row in report["rows"])
    lines = [
        f"| model | file | zstd -{ZSTD_LEVEL} | byte planes, zstd -{ZSTD_LEVEL} | netpress, qp {finest} |",
        "|---|---:|---:|---:|---:|",
    ]
    ours = {row["model"]: row["netpress"] for row in report["rows"] if row["qp"] == finest}
    for model, sizes in report["lossless"].items():
        cells = [f"{sizes['file']:,}"]
        cells += [f"{n:,} ({100 * n / sizes['file']:.1f} %)" for n in (sizes["zstd"], sizes["byte_planes_zstd"])]
        cells.append(f"{ours[model]:,} ({100 * ours[model] / sizes['file']:.1f} %)" if model in ours else "")
        lines.append(f"| {model} | " + " | ".join(cells) + " |")
    return lines
