"""netpress info: what is in a stream, from its headers alone."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

import netpress
from netpress.cli import options
from netpress.cli.console import (
    clear_errors,
    counted,
    human_bytes,
    make_table,
    print_json,
    print_line,
    print_table,
    printable,
    shape_text,
)
from netpress.cli.inputs import display_name, parse_dimensions, parse_limits, stream_file

__all__ = ["info"]


def info(
    stream: options.Input,
    syntax: Annotated[
        bool, typer.Option("--syntax", help="Print every syntax element with value and position.")
    ] = False,
    units: Annotated[bool, typer.Option("--units", help="Print every unit of the stream.")] = False,
    dimensions: options.Dimensions = None,
    limit: options.Limits = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Show what is in a stream: tensors, sizes and tools; decodes nothing."""
    with clear_errors(verbose=verbose, quiet=quiet):
        arguments: dict[str, Any] = {"dimensions": parse_dimensions(dimensions), "limits": parse_limits(limit)}
        name = display_name(stream, "standard input")
        with stream_file(stream) as path, netpress.open(path, **arguments) as opened:
            if as_json:
                print_json(_as_dict(opened, syntax=syntax, units=units))
                return
            content = opened.info()
            if quiet:
                return
            if units:
                _print_units(opened)
            if syntax:
                _print_syntax(opened)
            if not units and not syntax:
                _print_tensors(content)
            print_line(_totals(name, content))
            if content.recipe is not None:
                print_line(f"recipe: {_recipe_text(content.recipe)}")


def _as_dict(stream: netpress.Stream, *, syntax: bool, units: bool) -> dict[str, Any]:
    content: dict[str, Any] = stream.info().to_dict()
    if units:
        content["unit_list"] = [_unit_row(unit) for unit in stream.units()]
    if syntax:
        content["syntax"] = [
            {
                "unit": element.unit,
                "bit_position": element.bit_position,
                "bit_length": element.bit_length,
                "descriptor": element.descriptor,
                "name": element.name,
                "value": element.value,
            }
            for element in stream.trace()
        ]
    return content


def _print_tensors(content: netpress.StreamInfo) -> None:
    table = make_table(
        *("name", "shape", "type", "coded as", "qp", "bytes", "bits per weight", "tools"),
        left=("name", "type", "coded as", "tools"),
    )
    for tensor in content.tensors:
        table.add_row(
            printable(tensor.name),
            shape_text(tensor.shape),
            tensor.dtype,
            tensor.kind,
            "" if tensor.qp is None else str(tensor.qp),
            str(tensor.header_bytes + tensor.payload_bytes),
            f"{tensor.bits_per_weight:.2f}",
            ", ".join(tensor.tools),
        )
    print_table(table)


def _print_units(stream: netpress.Stream) -> None:
    table = make_table("unit", "type", "offset", "bytes", "header", "tensors", left=("type", "tensors"))
    for unit in stream.units():
        row = _unit_row(unit)
        names = printable(", ".join(row["tensors"]))
        table.add_row(*(str(row[key]) for key in ("unit", "type", "offset", "bytes", "header_bytes")), names)
    print_table(table)


def _unit_row(unit: Any) -> dict[str, Any]:
    return {
        "unit": unit.index,
        "type": getattr(unit.unit_type, "name", str(unit.unit_type)),
        "offset": unit.offset,
        "bytes": unit.size,
        "header_bytes": unit.header_bytes,
        "tensors": list(getattr(unit.content, "topology_elem_ids", ())),
    }


def _print_syntax(stream: netpress.Stream) -> None:
    """Print line by line, since a stream can have millions of elements."""
    unit = None
    for element in stream.trace():
        if element.unit != unit:
            unit = element.unit
            print_line(f"unit {unit}")
        text = element.value.hex() if isinstance(element.value, bytes) else repr(element.value)
        print_line(
            f"{element.bit_position:>12} {element.bit_length:>8}  {element.descriptor:<8} {element.name} = {text}"
        )


def _recipe_text(recipe: dict[str, Any]) -> str:
    """The stages of a recipe with their settings, on one line; the record may hold anything."""
    stages = recipe.get("stages")
    if not isinstance(stages, list) or not all(isinstance(stage, dict) for stage in stages):
        return printable(json.dumps(recipe))
    words = []
    for stage in stages:
        settings = ", ".join(f"{key}={value}" for key, value in stage.items() if key != "stage")
        words.append(f"{stage.get('stage')}({settings})")
    return printable(" -> ".join(words) or "no stages")


def _totals(name: str, content: netpress.StreamInfo) -> str:
    values = content.elements
    bits = f", {8 * content.bytes / values:.2f} bits per weight" if values else ""
    return (
        f"{name}: profile {content.profile}, {counted(content.units, 'unit')}, "
        f"{counted(len(content.tensors), 'tensor')}, {counted(values, 'value')}, "
        f"{human_bytes(content.original_bytes)} -> {human_bytes(content.bytes)}{bits}"
    )
