"""netpress chain: many versions of a model in one folder."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable
from pathlib import Path
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
    progress,
)
from netpress.cli.inputs import (
    STANDARD_STREAM,
    check_output,
    load_model,
    parse_limits,
    read_json_object,
    stem,
    stream_file,
)
from netpress.formats import output_format, save_tensors

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Keep many versions of a model in one folder, each as a small update.")

_MANIFEST = "chain.json"
Folder = Annotated[str, typer.Argument(metavar="CHAIN", help="The folder of the chain.", show_default=False)]
Message = Annotated[
    str | None, typer.Option("--message", "-m", metavar="TEXT", help="A note for the log.", show_default=False)
]
Qp = Annotated[
    int | None,
    typer.Option(
        help="Quality: lower is finer, and four less halve the steps (default: fine, and chosen for each tensor).",
        show_default=False,
    ),
]
Effort = Annotated[
    int | None, typer.Option(min=1, max=9, help="1 is fastest, 9 smallest (default: 5).", show_default=False)
]
Config = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        help="Settings as JSON, the fields of netpress.EncodeConfig; options overrule it.",
        show_default=False,
    ),
]


@app.command()
def add(
    chain: Folder,
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A model file or directory, or a stream (.nnc).", show_default=False)
    ],
    message: Message = None,
    keyframe: Annotated[
        bool | None,
        typer.Option(
            "--keyframe/--no-keyframe",
            help="Store a model of its own, or not (default: as --keyframe-every says).",
            show_default=False,
        ),
    ] = None,
    keyframe_every: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="For a new chain: no version takes more than N streams to restore (default: no bound).",
            show_default=False,
        ),
    ] = None,
    qp: Qp = None,
    effort: Effort = None,
    config: Config = None,
    limit: options.Limits = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Add a version; the first one makes the chain, and its settings are those of all that follow."""
    with clear_errors(verbose=verbose, quiet=quiet):
        settings = _settings(config, qp=qp, effort=effort)
        start = time.perf_counter()
        is_new = not (Path(chain) / _MANIFEST).exists()
        if not is_new and keyframe_every is not None:
            raise typer.BadParameter("--keyframe-every is for new chains; this one exists")
        limits = parse_limits(limit)
        with progress("encoding", quiet=quiet) as report:
            if is_new:
                opened = netpress.UpdateChain.create(
                    chain,
                    load_model(model),
                    keyframe_every=keyframe_every,
                    message=message or "",
                    limits=limits,
                    progress=report,
                    **settings,
                )
            else:
                opened = netpress.UpdateChain.open(chain, limits=limits)
                opened.append(load_model(model), message=message or "", keyframe=keyframe, progress=report, **settings)
        _print_added(opened.log()[-1], chain, time.perf_counter() - start, as_json=as_json, quiet=quiet)


@app.command()
def apply(
    chain: Folder,
    update: Annotated[
        str, typer.Argument(metavar="UPDATE.nnc", help="The stream; - reads standard input.", show_default=False)
    ],
    message: Message = None,
    keyframe: Annotated[
        bool, typer.Option("--keyframe", help="The stream is a model of its own, not an update.")
    ] = False,
    limit: options.Limits = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Add a version from a stream that was made elsewhere, byte for byte.

    It has to be an update of the last version. A chain that does not exist yet begins with a stream of a model.
    """
    with clear_errors(verbose=verbose, quiet=quiet):
        start = time.perf_counter()
        with stream_file(update) as path:
            data = path.read_bytes()
        limits = parse_limits(limit)
        if (Path(chain) / _MANIFEST).exists():
            opened = netpress.UpdateChain.open(chain, limits=limits)
            opened.apply(data, message=message or "", keyframe=keyframe)
        else:
            opened = netpress.UpdateChain.create(chain, data, message=message or "", limits=limits)
        _print_added(opened.log()[-1], chain, time.perf_counter() - start, as_json=as_json, quiet=quiet)


@app.command()
def export(
    chain: Folder,
    version: Annotated[
        int, typer.Option("--version", help="Number of the version; negative ones count from the last.")
    ] = -1,
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="OUT",
            help="The model to write: .safetensors, .npz, .pt or .pth; or .nnc, a stream of its own (default: CHAIN "
            "with the extension .safetensors).",
            show_default=False,
        ),
    ] = None,
    limit: options.Limits = None,
    force: options.Force = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Restore one version as a model file, or as a stream of its own."""
    with clear_errors(verbose=verbose, quiet=quiet):
        target = output or f"{stem(chain)}.safetensors"
        if target == STANDARD_STREAM:
            raise typer.BadParameter("a version is written to a file, not to standard output")
        is_stream = target.lower().endswith(".nnc")
        if not is_stream:
            output_format(target)
        check_output(target, force=force, inputs=[str(path) for path in Path(chain).glob("*")])
        opened = netpress.UpdateChain.open(chain, limits=parse_limits(limit))
        if is_stream:
            opened.save(target, version)
        else:
            save_tensors(opened.load(version), target)
        size = Path(target).stat().st_size
        if as_json:
            print_json({"output": target, "bytes": size})
        elif not quiet:
            print_line(f"{target}: {human_bytes(size)}")


@app.command(context_settings={"ignore_unknown_options": True})
def squash(
    chain: Folder,
    first: Annotated[int, typer.Argument(metavar="FIRST", help="Number of a version.", show_default=False)],
    last: Annotated[
        int,
        typer.Argument(metavar="LAST", help="Number of a later version; -1 is the last.", show_default=False),
    ],
    message: Message = None,
    qp: Qp = None,
    effort: Effort = None,
    config: Config = None,
    limit: options.Limits = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Make one link of the versions FIRST to LAST; only LAST remains of them. FIRST 0 makes a new base.

    LAST and the updates after it are quantised once more.
    """
    with clear_errors(verbose=verbose, quiet=quiet):
        settings = _settings(config, qp=qp, effort=effort)
        opened = netpress.UpdateChain.open(chain, limits=parse_limits(limit))
        before = _size(opened.log())
        with progress("encoding", quiet=quiet) as report:
            opened.squash(first, last, message=message, progress=report, **settings)
        after = _size(opened.log())
        if as_json:
            print_json({"versions": opened.versions, "bytes_before": before, "bytes": after})
        elif not quiet:
            sizes = f"{human_bytes(before)} -> {human_bytes(after)}"
            print_line(f"{chain}: {counted(len(opened), 'version')}, {sizes}")


@app.command()
def log(
    chain: Folder,
    as_json: options.Json = False,
    verbose: options.Verbose = False,
) -> None:
    """List the versions: size, time, tensors changed, what each builds on, message."""
    with clear_errors(verbose=verbose):
        links = netpress.UpdateChain.open(chain).log()
        if as_json:
            print_json([dataclasses.asdict(link) for link in links])
            return
        table = make_table("version", "kind", "bytes", "changed", "parent", "time", "message", left=("kind", "message"))
        for link in links:
            kind, parent = "update" if link.is_update else "model", (link.parent or "")[:12]
            columns = [str(link.version), kind, str(link.bytes), str(link.changed), parent, link.time]
            table.add_row(*columns, printable(link.message))
        print_table(table)
        print_line(f"{chain}: {counted(len(links), 'version')}, {human_bytes(_size(links))}")


@app.command()
def verify(
    chain: Folder,
    limit: options.Limits = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Check every link: its bytes, the model that it builds on, and the model that it makes."""
    with clear_errors(verbose=verbose, quiet=quiet):
        try:
            opened = netpress.UpdateChain.open(chain, limits=parse_limits(limit))
            with progress("verifying", quiet=quiet) as report:
                unused = opened.verify(progress=report)
        except netpress.NetpressError as error:
            if as_json:
                print_json({"ok": False, "problems": [str(error)], "versions": [], "unused": []})
            raise
        if as_json:
            print_json({"ok": True, "problems": [], "versions": opened.versions, "unused": unused})
        elif not quiet:
            print_line(f"{chain}: {counted(len(opened), 'version')}, all in order")
            for name in unused:
                print_line(f"note: {name} belongs to no version: an interrupted write left it")


def _settings(config: str | None, **given: Any) -> dict[str, Any]:
    """Settings from a file, overruled by options; nothing is set that was not given."""
    settings = {} if config is None else netpress.EncodeConfig.from_dict(read_json_object(config)).to_dict()
    return {**settings, **{name: value for name, value in given.items() if value is not None}}


def _size(links: Iterable[netpress.ChainLink]) -> int:
    return sum(link.bytes for link in links)


def _print_added(link: netpress.ChainLink, chain: str, seconds: float, *, as_json: bool, quiet: bool) -> None:
    if as_json:
        print_json({**dataclasses.asdict(link), "seconds": seconds})
    elif not quiet:
        kind = f"{counted(link.changed, 'tensor')} changed" if link.is_update else "a model of its own"
        print_line(f"{chain}: version {link.version}, {human_bytes(link.bytes)}, {kind} ({seconds:.1f} s)")
