"""Feeds damaged streams to the parser and to the whole decode; only netpress's own errors may come out.

    python fuzz/fuzz_stream.py --seconds 60 --seed 1 [--findings FOLDER]
    python fuzz/fuzz_stream.py --atheris [libFuzzer options] [CORPUS]

The first form needs nothing but netpress: it mutates the golden streams (see mutate.py), repeatably for one seed and
number of inputs. The second takes the same mutations and lets atheris keep what reaches new code. ``--replay FILE...``
runs single inputs. The exit code is 1 if there were findings.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import resource
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
os.environ["NETPRESS_THREADS"] = "1"  # one thread, so that the processor time is that of the input

SLOW_SECONDS = 1.0
SPARE_BYTES = 1 << 30


class TooSlow(Exception):
    """An input took more than a second of processor time."""


class Checker:
    """Runs every target on an input."""

    def __init__(self) -> None:
        from mutate import models

        import netpress
        from netpress.codec.record import CodedTensor, Record

        self.netpress, self.record = netpress, Record
        self.limits = netpress.DecodeLimits(
            max_elements=1 << 20, max_total_bytes=4 << 20, max_cheap_elements=1 << 20, max_topology_bytes=1 << 20
        )
        self.base = models()[0][0]
        self.coded = [CodedTensor(name, (3,), name in "bd") for name in "abcde"]
        self.accepted = 0

    def __call__(self, data: bytes) -> None:
        """Raise what a target raises that is not an error of netpress, or TooSlow."""
        for target in (self._record,) if data.startswith(b"netpress") else (self._read, self._trace, self._decode):
            start = time.process_time()
            with contextlib.suppress(self.netpress.NetpressError):
                target(data)
                self.accepted += 1
            seconds = time.process_time() - start
            if seconds > SLOW_SECONDS:
                raise TooSlow(f"{target.__name__} took {seconds:.1f} s")

    def _record(self, data: bytes) -> None:
        record = self.record.from_bytes(data)
        if record is not None:
            with contextlib.suppress(self.netpress.NetpressError):
                record.outputs(self.coded)
            self.record.from_bytes(record.to_bytes())

    def _read(self, data: bytes) -> None:
        for _ in self.netpress.bitstream.UnitReader(data, limits=self.limits):
            pass

    def _trace(self, data: bytes) -> None:
        for _ in self.netpress.bitstream.trace_stream(data, limits=self.limits):
            pass

    def _decode(self, data: bytes) -> None:
        decode = self.netpress.decode
        with contextlib.suppress(self.netpress.NetpressError):
            stream = self.netpress.Stream(data, limits=self.limits)
            stream.info()
            for name in stream:
                stream[name]
        with contextlib.suppress(self.netpress.NetpressError):
            decode(data, limits=self.limits, reconstruct=True)
        with contextlib.suppress(self.netpress.NetpressError):
            decode(data, limits=self.limits, base=self.base)
        decode(data, limits=self.limits)


def limit_memory() -> None:
    """Let an allocation of more than a gigabyte fail; the address sanitizer needs more room than that."""
    if "asan" in os.environ.get("LD_PRELOAD", ""):
        return
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + SPARE_BYTES, resource.RLIM_INFINITY))


def signature(error: BaseException) -> str:
    """Tell findings apart: the type and the innermost line of netpress."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if "netpress" in Path(f.filename).parts]
    place = f"{Path(own[-1].filename).name}:{own[-1].lineno}" if own else str(error)
    return f"{type(error).__name__} {place}"


def failure_of(check: Callable[[bytes], None], data: bytes) -> BaseException | None:
    """Return what an input makes a target raise, None if nothing."""
    try:
        check(data)
    except Exception as error:
        return error
    return None


def minimise(check: Callable[[bytes], None], data: bytes, wanted: str, seconds: float = 10.0) -> bytes:
    """Take out bytes as long as the failure stays the same."""
    end = time.monotonic() + seconds
    step = len(data) // 2
    while step:
        at = 0
        while at < len(data) and time.monotonic() < end:
            shorter = data[:at] + data[at + step :]
            error = failure_of(check, shorter)
            if error is not None and signature(error) == wanted:
                data = shorter
            else:
                at += step
        step //= 2
    return data


def run(seconds: float, seed: int, count: int | None, findings: Path) -> int:
    """Mutate for a while; returns the number of different findings."""
    from mutate import Mutator, seed_records, seed_streams

    check = Checker()
    streams, records = seed_streams(), seed_records()
    for data in [*streams, *records]:
        check(data)
    limit_memory()
    mutator = Mutator(seed, streams, records)
    check.accepted = 0
    found: dict[str, BaseException] = {}
    inputs, start = 0, time.monotonic()
    while time.monotonic() - start < seconds and (count is None or inputs < count):
        data = mutator.record() if mutator.random.randrange(4) == 0 else mutator.stream()
        inputs += 1
        error = failure_of(check, data)
        if error is None or signature(error) in found:
            continue
        name = signature(error)
        found[name] = error
        small = data if isinstance(error, TooSlow) else minimise(check, data, name)
        findings.mkdir(parents=True, exist_ok=True)
        path = findings / f"finding-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
        path.write_bytes(small)
        print(f"FINDING {name}: {error}\n  {path} ({len(small)} bytes)", flush=True)
    elapsed = time.monotonic() - start
    print(
        f"seed {seed}: {len(streams)} streams and {len(records)} records to start from, {inputs} inputs in "
        f"{elapsed:.0f} s, {check.accepted} runs of a target without an error, {len(found)} findings"
    )
    return len(found)


def run_atheris(arguments: list[str]) -> None:
    """Hand over to atheris, with our mutations in addition to its own; does not return."""
    import atheris  # type: ignore[import-not-found,import-untyped,unused-ignore]

    with atheris.instrument_imports(include=["netpress"]):
        import netpress  # noqa: F401
    from mutate import Mutator, seed_records, seed_streams

    check, streams, records = Checker(), seed_streams(), seed_records()
    limit_memory()

    def mutate(data: bytes, max_size: int, seed: int) -> bytes:
        mutator = Mutator(seed, streams, records)
        kind = mutator.random.randrange(8)
        if kind == 0:
            return bytes(atheris.Mutate(data, max_size)[:max_size])
        if kind == 1 or not data:
            return mutator.record()[:max_size]
        return mutator.stream(data if mutator.random.randrange(8) else None)[:max_size]

    options = ["-timeout=10", "-rss_limit_mb=4096", "-max_len=16384", "-len_control=0", *arguments]
    atheris.Setup([sys.argv[0], *options], check, custom_mutator=mutate)
    atheris.Fuzz()


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--inputs", type=int, help="stop after so many inputs")
    parser.add_argument("--findings", type=Path, default=Path("findings"))
    parser.add_argument("--replay", type=Path, nargs="+", help="run these inputs only")
    parser.add_argument("--atheris", action="store_true", help="use atheris; all other arguments are its own")
    options, rest = parser.parse_known_args()
    warnings.simplefilter("ignore")
    if options.atheris:
        run_atheris(rest)
    if rest:
        parser.error(f"unknown arguments: {' '.join(rest)}")
    if options.replay:
        check = Checker()
        for path in options.replay:
            check(path.read_bytes())
        return
    sys.exit(1 if run(options.seconds, options.seed, options.inputs, options.findings) else 0)


if __name__ == "__main__":
    main()
