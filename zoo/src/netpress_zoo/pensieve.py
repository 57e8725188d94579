"""A policy that chooses the bit rate of a video while it plays.

Source: Mao et al., Neural Adaptive Video Streaming with Pensieve (2017).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from netpress import Scores, Task
from netpress.evaluate.data import DataFolder, build, layers_of
from netpress.evaluate.samples import Batches, Epochs, choose, inference

__all__ = [
    "CHUNKS",
    "Actor",
    "States",
    "Trace",
    "chunk_sizes",
    "data_folder",
    "pensieve",
    "play",
    "simulate",
    "trained_actor",
]

Trace = tuple[np.ndarray, np.ndarray]
"""Times in s and the bandwidths in Mbit/s up to them."""

_NAME = "pensieve"
_WEIGHTS, _FILE = "pensieve_actor.safetensors", "traces_sizes.npz"
_RATES = np.array([300, 750, 1200, 1850, 2850, 4300])  # kbit/s
CHUNKS, _CHUNK_MS = 48, 4000.0
_FULL_BUFFER_MS, _PAUSE_MS, _DELAY_MS = 60_000.0, 500.0, 80.0
_PAYLOAD = 0.95  # share of the bandwidth that is not headers
_REBUFFER_PENALTY = 4.3  # for each second without video
_HISTORY = 8
_MADE_TRACES = 16


def pensieve(data: Path, limit: int | None = None) -> Task:
    """Actor of Pensieve: mean quality of experience 0.9000 per chunk over 94 recorded bandwidths.

    A sample is a recording. States to calibrate with come from bandwidths that are made up.
    """
    folder = data_folder(_NAME, data)
    arrays, sizes = folder.arrays(_FILE), chunk_sizes(folder)
    names = sorted(name[2:] for name in arrays if name.startswith("t_"))
    traces = [(arrays["t_" + names[row]], arrays["bw_" + names[row]]) for row in choose(len(names), limit)]

    def model() -> nn.Module:
        return trained_actor(folder)

    made = States(model, [_make_trace(seed) for seed in range(_MADE_TRACES)], sizes)
    recorded = States(model, traces, sizes)
    return Task(
        name=_NAME,
        model=model,
        train_batches=lambda: Epochs(_MADE_TRACES * CHUNKS, 32, lambda rows, _: made.get()[rows]),
        calibration_batches=Batches(_MADE_TRACES * CHUNKS, 128, lambda rows: made.get()[rows]),
        evaluation_batches=Batches(len(traces) * CHUNKS, 128, lambda rows: recorded.get()[rows]),
        evaluate=lambda module: Scores(play(module, traces, sizes)[0]),
        metric="quality of experience per chunk",
        outputs="logits",
        description={
            "use case": "adaptive bit rate of video streaming, reinforcement learning",
            "network": "actor of Pensieve, three linear and three convolutional branches of width 128",
            "layers": layers_of(Actor),
            "data": f"simulated playing of 48 chunks over {len(names)} recorded bandwidths; states met by the float "
            f"network on {_MADE_TRACES} made-up bandwidths calibrate, and train on the network's own outputs",
            "source": "hongzimao/pensieve",
            "licence": "MIT",
        },
    )


def data_folder(task: str, data: Path) -> DataFolder:
    """Return the folder with the weights and the recordings."""
    contents = "chunk_sizes, int64 (6, 49), bytes; for each recording t_NAME, seconds, and bw_NAME, Mbit/s"
    return DataFolder(task, data, "pensieve", {_WEIGHTS: "weights", _FILE: contents})


def trained_actor(folder: DataFolder) -> nn.Module:
    """Return the policy of the folder's weights, in inference mode."""
    return build(Actor, folder.path / _WEIGHTS)


def chunk_sizes(folder: DataFolder) -> np.ndarray:
    """Return the bytes of the chunks at each bit rate, (6, 49)."""
    sizes: np.ndarray = folder.arrays(_FILE)["chunk_sizes"]
    return sizes


@dataclasses.dataclass
class States:
    """The states that the float network meets on some bandwidths, found when they are asked for."""

    model: Callable[[], nn.Module]
    traces: Sequence[Trace]
    sizes: np.ndarray
    found: Tensor | None = None

    def get(self) -> Tensor:
        """States (chunks, 6, 8)."""
        if self.found is None:
            self.found = play(self.model(), self.traces, self.sizes)[1]
        return self.found


def _make_trace(seed: int) -> Trace:
    """Times in s and bandwidths in Mbit/s: a random walk of the logarithm between 0.2 and 6 Mbit/s."""
    steps = np.random.default_rng(seed).normal(0, 0.25, 300)
    logarithms = np.empty(len(steps))
    value = np.random.default_rng([seed, 1]).uniform(np.log(0.4), np.log(4))
    for place, step in enumerate(steps):
        value = np.clip(value + step, np.log(0.2), np.log(6))
        logarithms[place] = value
    return np.arange(len(steps), dtype=np.float64), np.exp(logarithms)


class _Link:
    """A recorded bandwidth from its start, repeated when it ends."""

    def __init__(self, times: np.ndarray, bandwidths: np.ndarray) -> None:
        self._times: list[float] = times.astype(np.float64).tolist()
        self._rates: list[float] = (bandwidths.astype(np.float64) * 1e6 / 8 * _PAYLOAD).tolist()  # bytes in a second
        self._place, self._last = 1, self._times[0]

    def download(self, size: float) -> float:
        """Take ``size`` bytes; returns how long that takes, in ms."""
        seconds = 0.0
        while True:
            rate, left = self._rates[self._place], self._times[self._place] - self._last
            if size <= rate * left:
                self._last += size / rate
                return (seconds + size / rate) * 1000
            size -= rate * left
            seconds += left
            self._next()

    def wait(self, milliseconds: float) -> None:
        """Let time pass."""
        seconds = milliseconds / 1000
        while seconds > (left := self._times[self._place] - self._last):
            seconds -= left
            self._next()
        self._last += seconds

    def _next(self) -> None:
        self._last = self._times[self._place]
        self._place += 1
        if self._place >= len(self._times):
            self._place, self._last = 1, 0.0


def play(module: nn.Module, traces: Sequence[Trace], sizes: np.ndarray) -> tuple[np.ndarray, Tensor]:
    """Play the video over all bandwidths at once; the network chooses for all of them together.

    Returns:
        The mean quality of chunks 2 to 48 of each trace, and the states after each chunk, (traces * 48, 6, 8).
    """
    with inference(module) as device:
        rewards, states = simulate(lambda state: module(state.to(device)).argmax(1).cpu().numpy(), traces, sizes)
    return rewards[:, 1:].mean(1), states.flatten(0, 1)


def simulate(
    choose_rates: Callable[[Tensor], np.ndarray], traces: Sequence[Trace], sizes: np.ndarray
) -> tuple[np.ndarray, Tensor]:
    """Play the video over all bandwidths at once.

    Args:
        choose_rates: places of the next bit rates, one for each trace, for states (traces, 6, 8); called after each
            chunk.
        traces: bandwidths.
        sizes: bytes of the chunks at each rate, (6, 49).

    Returns:
        The quality of each chunk, (traces, 48), and the states after it, (traces, 48, 6, 8).
    """
    count = len(traces)
    links = [_Link(*trace) for trace in traces]
    state = np.zeros((count, 6, _HISTORY), np.float32)
    buffers, qualities = np.zeros(count), np.ones(count, np.int64)
    previous = qualities.copy()
    rewards, states = np.zeros((count, CHUNKS)), []
    for chunk in range(CHUNKS):
        for row, link in enumerate(links):
            size = float(sizes[qualities[row], chunk])
            delay = link.download(size) + _DELAY_MS
            stalled = max(delay - buffers[row], 0.0)
            buffers[row] = _drain(link, max(float(buffers[row]) - delay, 0.0) + _CHUNK_MS)
            rate, before = _RATES[qualities[row]], _RATES[previous[row]]
            rewards[row, chunk] = rate / 1000 - _REBUFFER_PENALTY * stalled / 1000 - abs(rate - before) / 1000
            state[row] = np.roll(state[row], -1, axis=1)
            state[row, :4, -1] = (rate / _RATES[-1], buffers[row] / 1e4, size / delay / 1000, delay / 1e4)
            state[row, 4, :6] = sizes[:, min(chunk + 1, CHUNKS)] / 1e6
            state[row, 5, -1] = (CHUNKS - chunk - 1) / CHUNKS
        previous = qualities
        states.append(torch.from_numpy(state.copy()))
        qualities = choose_rates(states[-1])
    return rewards, torch.stack(states, 1)


def _drain(link: _Link, buffered: float) -> float:
    """Wait in steps until the buffer, in ms of video, is not too full."""
    if buffered > _FULL_BUFFER_MS:
        pause = math.ceil((buffered - _FULL_BUFFER_MS) / _PAUSE_MS) * _PAUSE_MS
        link.wait(pause)
        buffered -= pause
    return buffered


class Actor(nn.Module):
    """Chooses one of six bit rates from what happened during the last eight chunks."""

    def __init__(self) -> None:
        super().__init__()
        self.fc_bitrate = nn.Linear(1, 128)
        self.fc_buffer = nn.Linear(1, 128)
        self.conv_tput = nn.Conv1d(8, 128, 4)
        self.conv_delay = nn.Conv1d(8, 128, 4)
        self.conv_sizes = nn.Conv1d(6, 128, 4)
        self.fc_left = nn.Linear(1, 128)
        self.fc_hidden = nn.Linear(768, 128)
        self.fc_out = nn.Linear(128, 6)

    def forward(self, state: Tensor) -> Tensor:
        """Logits (n, 6) of the bit rates, low to high, for states (n, 6, 8)."""
        branches = [
            self.fc_bitrate(state[:, 0, 7:]),
            self.fc_buffer(state[:, 1, 7:]),
            self._convolve(self.conv_tput, state[:, 2]),
            self._convolve(self.conv_delay, state[:, 3]),
            self._convolve(self.conv_sizes, state[:, 4, :6]),
            self.fc_left(state[:, 4, 7:]),  # as the network was trained, though row 5 holds the chunks that are left
        ]
        logits: Tensor = self.fc_out(torch.relu(self.fc_hidden(torch.relu(torch.cat(branches, 1)))))
        return logits

    @staticmethod
    def _convolve(layer: nn.Conv1d, row: Tensor) -> Tensor:
        """The values of a row are channels of a signal of length 1, so that one tap of four meets them."""
        padded = nn.functional.pad(row[:, :, None], (1, 2))
        values: Tensor = layer(padded)
        return values[:, :, 0]
