"""netpress demo: a bundled network, before and after."""

from __future__ import annotations

from netpress.cli import options
from netpress.cli.console import clear_errors, human_bytes, make_table, print_json, print_line, print_table, progress

__all__ = ["demo"]


def demo(as_json: options.Json = False, verbose: options.Verbose = False) -> None:
    """Compress a bundled network and show size and accuracy before and after."""
    with clear_errors(verbose=verbose):
        from netpress.demo import load_test_set, run_demo  # no other verb needs the network

        with progress("compressing") as report:
            rows = run_demo(report)
        if as_json:
            print_json([row.to_dict() for row in rows])
            return
        images, _ = load_test_set()
        print_line(f"A convolutional network that reads handwritten digits, tested on {len(images)} images:")
        table = make_table(
            *("setting", "size", "of float32", "bits per weight", "accuracy", "change", "encoded in"), left=("setting",)
        )
        for row in rows:
            table.add_row(
                row.setting,
                human_bytes(row.bytes),
                f"{row.share:.1%}",
                f"{row.bits_per_weight:.2f}",
                f"{row.accuracy:.2%}",
                f"{100 * row.accuracy_change:+.2f}",
                f"{row.seconds:.2f} s" if row.seconds else "",
            )
        print_table(table)
        print_line("Next: netpress encode MODEL.safetensors")
