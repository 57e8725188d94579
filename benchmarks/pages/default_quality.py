"""docs/results/default-quality.md: what the default settings keep."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from pages.common import load, table_lines
from pages.size import ZSTD_LEVEL

DEFAULT, RIVAL = "netpress", "int8 + zstd"

AGREEMENT = 0.99
ERROR_EACH, ERROR_MEAN = 0.8, 0.5
BYTES_MEAN, SHARE_MEAN = 0.92, 0.21
TIME_MEAN = 1.3
"""What must hold; see :func:`summary_lines`."""

Networks = Mapping[str, Any]


def geometric_mean(values: Iterable[float]) -> float:
    """Return the geometric mean."""
    logarithms = [math.log(max(value, 1e-12)) for value in values]
    return math.exp(sum(logarithms) / len(logarithms))


def row_line(name: str, tool: str, row: Mapping[str, Any], float_bytes: int) -> str:
    """One tool on one network, in a line."""
    agreement = "" if row["agreement"] is None else f"agreement {agreement_text(row)}  "
    kl = "" if row["kl"] is None else f"KL {row['kl']:.5f}  "
    metric = "" if row["metric"] is None else f"metric {row['float_metric']:.5g} -> {row['metric']:.5g}  "
    size = f"{row['bytes']:,} bytes, {100 * row['bytes'] / float_bytes:.2f} %"
    error = f"error {row['relative_error']:.4f}  "
    return f"{name}, {tool}: {size}  {agreement}{kl}{error}{metric}{row['encode_seconds']:.1f} s"


def agreement_text(row: Mapping[str, Any]) -> str:
    """An agreement with its interval, in percent."""
    low, high = row["interval"]
    return f"{100 * row['agreement']:.2f} ({100 * low:.2f}-{100 * high:.2f})"


def _ratios(networks: Networks, tool: str, figure: str) -> dict[str, float]:
    """A figure of a tool over that of the rival, by network."""
    ratios = {}
    for name, network in networks.items():
        row, rival = (network["tools"].get(key) for key in (tool, RIVAL))
        if row and rival and rival[figure]:
            ratios[name] = row[figure] / rival[figure]
    return ratios


def bars(networks: Networks, tool: str = DEFAULT) -> list[tuple[str, str, bool]]:
    """Return what must hold of a tool, what was found, and whether it holds."""
    rows = {name: network["tools"][tool] for name, network in networks.items() if tool in network["tools"]}
    agreements = {name: row["agreement"] for name, row in rows.items() if row["agreement"] is not None}
    found: list[tuple[str, str, bool]] = []
    if agreements:
        below = sorted((value, name) for name, value in agreements.items() if value < AGREEMENT)
        names = ", ".join(f"{name} {100 * value:.2f} %" for value, name in below)
        least = min(agreements, key=lambda name: agreements[name])
        text = names or f"least {100 * agreements[least]:.2f} % ({least})"
        found.append((f"agreement of at least {100 * AGREEMENT:g} % on each of {len(agreements)}", text, not below))
    errors = _ratios(networks, tool, "relative_error")
    if errors:
        above = sorted(((value, name) for name, value in errors.items() if value > ERROR_EACH), reverse=True)
        worst = max(errors, key=lambda name: errors[name])
        text = ", ".join(f"{name} {value:.2f}" for value, name in above) or f"worst {errors[worst]:.2f} ({worst})"
        found.append((f"error at most {ERROR_EACH:g} of that of int8 on each of {len(errors)}", text, not above))
        mean = geometric_mean(errors.values())
        found.append((f"geometric mean of these at most {ERROR_MEAN:g}", f"{mean:.3f}", mean <= ERROR_MEAN))
    sizes = _ratios(networks, tool, "bytes")
    if sizes:
        mean, worst = geometric_mean(sizes.values()), max(sizes, key=lambda name: sizes[name])
        text = f"{mean:.3f}, worst {sizes[worst]:.2f} ({worst})"
        found.append((f"bytes at most {BYTES_MEAN:g} of {RIVAL}, geometric mean", text, mean <= BYTES_MEAN))
    if rows:
        shares = {name: row["bytes"] / networks[name]["float_bytes"] for name, row in rows.items()}
        mean, worst = geometric_mean(shares.values()), max(shares, key=lambda name: shares[name])
        text = f"{100 * mean:.2f} %, worst {100 * shares[worst]:.1f} % ({worst})"
        found.append((f"bytes at most {100 * SHARE_MEAN:g} % of float32, geometric mean", text, mean <= SHARE_MEAN))
    times = {name: network["seconds"] for name, network in networks.items() if "seconds" in network}
    if times and tool == DEFAULT:
        mean = sum(now for now, _ in times.values()) / sum(before for _, before in times.values())
        text = f"{mean:.2f}, all {len(times)} networks together"
        found.append((f"time to encode at most {TIME_MEAN:g} of that of the release before", text, mean <= TIME_MEAN))
    return found


def summary_lines(networks: Networks) -> list[str]:
    """What must hold of each rung of the quality ladder, and whether it does."""
    names = dict.fromkeys(tool for network in networks.values() for tool in network["tools"])
    names = {tool: None for tool in names if tool != RIVAL and not tool.startswith(f"{DEFAULT}, qp")}
    lines: list[str] = []
    for tool in names:
        rows = [[text, found, "holds" if holds else "**fails**"] for text, found, holds in bars(networks, tool)]
        lines += table_lines(f"| {tool} | found | |", "lll", rows)
    return lines


def default_quality_page() -> str:
    """docs/results/default-quality.md: what the default settings keep."""
    results = load("default-quality")
    lines = [
        "# Quality of the default settings",
        "",
        "Written by `benchmarks/write_pages.py` from default-quality.json, which",
        "`python benchmarks/default_quality.py --json docs/results/default-quality.json` makes: networks after",
        "`netpress.encode` with the default settings and `netpress.decode`, beside the float networks and beside what",
        "is usual: symmetric 8-bit integers with a scale for each output channel, vectors in float32, then zstd at",
        f"level {ZSTD_LEVEL} ({RIVAL}). Neither sees data, labels or inputs. Some networks are also coded with a qp.",
        "",
        "Rules and settings were chosen on the networks at the end of this page, with two exceptions that were settled",
        "after a look at those above it: 43 dB for weights instead of 44, which was a step too dear in bytes, and the",
        "finer steps of filter banks, of which the second set has none.",
        "",
        "## What must hold",
        *summary_lines(results["judged"]),
        "",
        "## Networks",
        "",
        _EXPLANATION,
        *network_table(results["judged"]),
        *metric_table(results["judged"]),
    ]
    if results["development"]:
        lines += [
            "",
            "## Networks on which settings are chosen",
            "",
            "None of them is among those above; `--development` measures them.",
            *network_table(results["development"]),
        ]
    return "\n".join(lines) + "\n"


_EXPLANATION = """\
mobilenetv2, efficientnet_lite0 and those from nudenet on are files of public packages
(`benchmarks/quality_networks/packages.py`), the others are networks of the zoo.

Agreement: share of the decisions that are those of the float network, in percent, with an interval at 95 %: of Wilson
where each input has one decision, elsewhere from resampling the inputs (b), which finds no width where all agree. Of
boxes it is the share that has a partner of the same class with an overlap of at least 0.5. Error: `|y' - y|` over
`|y - mean y|` of the outputs, where logits have a mean for each class; the root of the mean square of several outputs.
KL: mean Kullback-Leibler divergence from the float network, in nats, of outputs that are logits or probabilities. Bytes
are those of the stream; share is that of the float tensors in 32 bits."""


def network_table(networks: Networks) -> list[str]:
    """The lines of a table with a row for each tool and network."""
    rows = []
    for name, network in networks.items():
        for tool, row in network["tools"].items():
            is_first = tool == next(iter(network["tools"]))
            has_decisions = row["agreement"] is not None
            method = " b" if row["interval_method"] == "bootstrap" else ""
            rival = network["tools"].get(RIVAL)
            rows.append(
                [
                    name if is_first else "",
                    tool,
                    f"{row['decisions']:,} {network['decides']}" if has_decisions and is_first else "",
                    agreement_text(row) + method if has_decisions else "",
                    f"{row['relative_error']:.4f}",
                    "" if row["kl"] is None else f"{row['kl']:.5f}",
                    f"{row['bytes']:,}",
                    f"{100 * row['bytes'] / network['float_bytes']:.2f} %",
                    f"{row['bytes'] / rival['bytes']:.3f}" if rival else "",
                    f"{row['encode_seconds']:.2f}",
                ]
            )
    head = "| network | tool | decisions | agreement | error | KL | bytes | share | of int8 + zstd | seconds |"
    return table_lines(head, "lllrrrrrrr", rows)


def metric_table(networks: Networks) -> list[str]:
    """The lines of a table of the metrics, of the networks whose samples have labels."""
    rows = []
    for name, network in networks.items():
        tools = network["tools"]
        if any(row["metric"] is None for row in tools.values()):
            continue
        unit = f" {network['unit']}" if network["unit"] else ""
        first = next(iter(tools.values()))
        cells = [name, network["metric"], f"{first['float_metric']:.5g}{unit}"]
        for tool in (DEFAULT, RIVAL):
            row = tools.get(tool)
            error = row and row["metric_standard_error"]
            spread = f" ± {error:.1g}" if error else ""
            cells.append(f"{row['metric'] - row['float_metric']:+.3g}{spread}" if row else "")
        rows.append(cells)
    head = f"| network | metric | float | {DEFAULT} | {RIVAL} |"
    return table_lines(head, "llrrr", rows)
