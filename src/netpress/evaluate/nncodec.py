"""NNCodec beside netpress: a process in its own environment, and its strongest settings as tools."""

from __future__ import annotations

import contextlib
import json
import math
import os
import selectors
import shlex
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from netpress import NetpressError
from netpress.evaluate import nncodec_script
from netpress.evaluate.judge import State
from netpress.evaluate.tools import Made, Tool

__all__ = ["VARIABLE", "Peer", "PeerFailed", "nncodec_tools", "peer_command"]

VARIABLE = "NETPRESS_PEER"
"""Environment variable with the command of the peer."""

_FOLDED_NONWEIGHT_QP = -50
_SHOWN_ERROR_BYTES = 2000


class PeerFailed(NetpressError):
    """The peer crashed, took too long, or said that it cannot do what it was asked."""


def peer_command(words: str | None) -> list[str] | None:
    """Return the command that runs NNCodec, None if there is none.

    Args:
        words: the Python of an environment that has NNCodec, or a whole command that answers requests as
            :mod:`netpress.evaluate.nncodec_script` does. None or empty: what the environment variable
            ``NETPRESS_PEER`` says.
    """
    command = shlex.split(words or os.environ.get(VARIABLE, ""))
    # Isolated: the script must not import the modules next to it.
    return [*command, "-I", str(Path(nncodec_script.__file__))] if len(command) == 1 else command or None


class Peer:
    """A running NNCodec; started at the first request, and again after it crashed.

    Args:
        command: that of :func:`peer_command`.
        timeout: seconds that a request may take; ``math.inf`` for as long as it likes.
        threads: that it may use.
    """

    def __init__(self, command: Sequence[str], *, timeout: float = 1800, threads: int = 1) -> None:
        self._command, self._timeout, self._threads = list(command), timeout, threads
        self._process: subprocess.Popen[str] | None = None
        self._errors = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115

    def __enter__(self) -> Peer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        self._errors.close()

    def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(OSError):
            process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):  # what was not read any more
                    pipe.close()

    def request(self, **content: Any) -> dict[str, Any]:
        """Ask, and return the answer.

        Raises:
            PeerFailed: the peer cannot be started, crashed, took too long, or answered with an error.
        """
        process = self._running()
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps(content) + "\n")
            process.stdin.flush()
            answer = self._answer(process)
        except OSError:
            answer = ""
        try:
            response: dict[str, Any] = json.loads(answer)
        except json.JSONDecodeError:
            self.close()
            raise PeerFailed(f"the peer crashed: {self._last_words() or answer or 'it said nothing'}") from None
        if "error" in response:
            raise PeerFailed(f"the peer failed: {response['error']}")
        return response

    def _running(self) -> subprocess.Popen[str]:
        if self._process is None:
            count = str(self._threads)
            environment = {**os.environ, "OMP_NUM_THREADS": count, "MKL_NUM_THREADS": count}
            try:
                self._process = subprocess.Popen(
                    self._command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=self._errors,
                    text=True,
                    env=environment,
                    start_new_session=True,  # Ctrl-C is not for it; it ends when its input does
                )
            except OSError as error:
                raise PeerFailed(f"the peer cannot be started: {error}") from None
        return self._process

    def _answer(self, process: subprocess.Popen[str]) -> str:
        assert process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            if not selector.select(None if self._timeout == math.inf else self._timeout):
                self.close()
                raise PeerFailed(f"the peer took longer than {self._timeout:g} seconds")
        return process.stdout.readline()

    def _last_words(self) -> str:
        """The last line that the peer wrote to standard error."""
        self._errors.seek(max(0, self._errors.seek(0, os.SEEK_END) - _SHOWN_ERROR_BYTES))
        lines = self._errors.read().strip().splitlines()
        return lines[-1] if lines else ""

    def version(self) -> str:
        """Return the version of NNCodec."""
        return str(self.request(verb="hello")["version"])

    def make(self, state: State, rest: State, **options: Any) -> Made:
        """Encode and decode tensors with arguments of NNCodec's ``compress``.

        Args:
            state: what is coded.
            rest: what completes the network after decoding.
            options: arguments.
        """
        with tempfile.TemporaryDirectory(prefix="netpress-") as folder:
            source, stream, target = (Path(folder, name) for name in ("in.safetensors", "s.nnc", "out.safetensors"))
            save_file({name: np.ascontiguousarray(value) for name, value in state.items()}, source)
            encoded = self.request(verb="encode", source=str(source), target=str(stream), options=options)
            decoded = self.request(verb="decode", source=str(stream), target=str(target))
            restored = {
                name: value.astype(state[name].dtype).reshape(state[name].shape)
                for name, value in load_file(target).items()
            }
            return Made(
                size=stream.stat().st_size,
                state={**restored, **rest},
                encode_seconds=encoded["seconds"],
                decode_seconds=decoded["seconds"],
                stream=stream.read_bytes(),
            )


def nncodec_tools(peer: Peer, module: Any) -> list[Tool]:
    """Return NNCodec's strongest settings for a network.

    These are dependent quantisation with and without ``opt_qp``; both again with vectors at a qp of -50 and batch norms
    folded before, once to a factor and a bias for each channel, once with the factors multiplied into the weights.

    Args:
        peer: runs NNCodec.
        module: the float network, a torch module.
    """
    from netpress.recipe.folded_state import folded_state

    state = {name: value.detach().cpu().numpy() for name, value in module.state_dict().items()}
    factors, multiplied = (folded_state(module, multiply=multiply) for multiply in (False, True))
    kinds: list[tuple[str, State, State, bool]] = [("", state, {}, False)]
    if multiplied[1]:
        kinds += [(", norms folded", *multiplied, True), (", norms as factors", *factors, True)]
    else:
        kinds += [(f", vectors at {_FOLDED_NONWEIGHT_QP}", state, {}, True)]
    tools = []
    for words, own, rest, fine in kinds:
        for optimised in (False, True):
            options: dict[str, Any] = {"use_dq": True, "opt_qp": optimised}
            if fine:
                options["nonweight_qp"] = _FOLDED_NONWEIGHT_QP
            tools.append(
                Tool(
                    name=f"NNCodec DQ{' + opt_qp' if optimised else ''}{words}",
                    make=_maker(peer, own, rest, options),
                    start=-30 if optimised else -24,
                    options=options,
                    keeps_topology=not rest,
                )
            )
    return tools


def _maker(peer: Peer, state: State, rest: State, options: Mapping[str, Any]) -> Callable[[int], Made]:
    return lambda qp: peer.make(state, rest, qp=qp, **options)
