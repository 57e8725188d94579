"""The policy of Pensieve goes on learning for five rounds; the five updates are coded.

Source: Mao et al., Neural Adaptive Video Streaming with Pensieve (2017); what follows a choice is compared with
what follows in other plays over the same bandwidth, as in Kool et al., Buy 4 REINFORCE Samples, Get a Baseline for Free
(2019).
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from netpress import Scores, Task
from netpress.evaluate.data import layers_of
from netpress.evaluate.samples import Batches, Epochs, choose
from netpress_zoo.pensieve import (
    CHUNKS,
    Actor,
    States,
    Trace,
    chunk_sizes,
    data_folder,
    play,
    simulate,
    trained_actor,
)

__all__ = ["Rounds", "pensieve_rounds"]

_NAME = "pensieve-rounds"
_ROUNDS, _ITERATIONS = 5, 15
_TRACES, _PLAYS = 6, 8  # of an iteration: bandwidths, and plays over each
_HELD_OUT, _CALIBRATION = 100, 16
_LEARNING_RATE, _DISCOUNT, _ENTROPY = 3e-4, 0.9, 0.01

Weights = Mapping[str, Tensor]


def pensieve_rounds(data: Path, limit: int | None = None) -> Task:
    """Five updates of Pensieve's actor, which learns for bandwidths with outages.

    A sample is a bandwidth that was not learned from. The network is that of the five updates together, each
    as large as the actor; the metric is that of the actor after the last round.
    """
    folder = data_folder(_NAME, data)
    sizes = chunk_sizes(folder)
    held_out = [make_outages(10**6 + int(row)) for row in choose(_HELD_OUT, limit)]

    @functools.cache
    def learned() -> tuple[Weights, list[Weights]]:
        actor = trained_actor(folder)
        first = {name: value.detach().clone() for name, value in actor.state_dict().items()}
        return first, learn(actor, sizes)

    def model() -> nn.Module:
        first, updates = learned()
        return Rounds(first, updates).eval()

    others = [make_outages(2 * 10**6 + row) for row in range(_CALIBRATION)]
    met, met_else = States(model, held_out, sizes), States(model, others, sizes)
    return Task(
        name=_NAME,
        model=model,
        train_batches=lambda: Epochs(_CALIBRATION * CHUNKS, 32, lambda rows, _: met_else.get()[rows]),
        calibration_batches=Batches(_CALIBRATION * CHUNKS, 128, lambda rows: met_else.get()[rows]),
        evaluation_batches=Batches(len(held_out) * CHUNKS, 128, lambda rows: met.get()[rows]),
        evaluate=lambda module: Scores(play(module, held_out, sizes)[0]),
        metric="quality of experience per chunk",
        outputs="logits",
        description={
            "use case": "adaptive bit rate of video streaming, reinforcement learning",
            "network": f"{_ROUNDS} updates of the actor of Pensieve, each what a round of learning changes",
            "layers": layers_of(Actor) + f", {_ROUNDS} times",
            "data": f"simulated playing of {CHUNKS} chunks over made-up bandwidths with outages; {_HELD_OUT} evaluate, "
            f"{_CALIBRATION} others give states to calibrate with. A round is {_ITERATIONS} steps of policy gradients, "
            f"each over {_TRACES} more, {_PLAYS} plays of each",
            "source": "first weights: hongzimao/pensieve",
            "licence": "MIT",
        },
    )


class Rounds(Actor):
    """The actor after some updates, which are its parameters; the weights before are not part of its state.

    Each layer adds up what its weights before and all updates make of its inputs.

    Args:
        first: weights of the actor.
        updates: what each round changed.
    """

    def __init__(self, first: Weights, updates: Sequence[Weights]) -> None:
        super().__init__()
        for name, layer in list(self.named_children()):
            parts = [_filled(layer, weights, name) for weights in (first, *updates)]
            setattr(self, name, _Updated(parts[0], parts[1:]))


class _Updated(nn.Module):
    """A layer and its updates."""

    def __init__(self, layer: nn.Module, updates: Sequence[nn.Module]) -> None:
        super().__init__()
        self._layer = (layer,)  # in a tuple, so that its weights do not count
        self.updates = nn.ModuleList(updates)

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            weights = [parameter.to(x.device) for parameter in self._layer[0].parameters()]
        first: Tensor = torch.func.functional_call(
            self._layer[0], dict(zip(("weight", "bias"), weights, strict=True)), (x,)
        )
        return sum((update(x) for update in self.updates), first)


def _filled(layer: nn.Module, weights: Weights, name: str) -> nn.Module:
    made = copy.deepcopy(layer)
    made.load_state_dict({key: weights[f"{name}.{key}"] for key in ("weight", "bias")})
    return made


def make_outages(seed: int) -> Trace:
    """Times in s and bandwidths in Mbit/s: a walk around 3 Mbit/s, and every half a minute or so some seconds with a
    twentieth of that."""
    random = np.random.default_rng([seed, 2])
    logarithms = np.log(3) + np.clip(np.cumsum(random.normal(0, 0.2, 300)), -1, 1)
    is_out, state = np.zeros(300, bool), False
    for place in range(300):
        state = bool(random.random() < (0.85 if state else 0.03))
        is_out[place] = state
    return np.arange(300, dtype=np.float64), np.exp(np.where(is_out, logarithms - np.log(20), logarithms))


def learn(
    actor: nn.Module, sizes: np.ndarray, traces: Callable[[int], Trace] = make_outages, rounds: int = _ROUNDS
) -> list[Weights]:
    """Let a policy learn by policy gradients; it is changed.

    One thread works, with fixed seeds, so that the weights are the same on the same machine with the same PyTorch.

    Args:
        actor: logits of bit rates for states.
        sizes: bytes of chunks, (6, 49).
        traces: makes the bandwidths to learn from.
        rounds: how often the weights are looked at.

    Returns:
        What each round changed.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode(False), torch.enable_grad():
            generator = torch.Generator().manual_seed(0)
            optimiser = torch.optim.Adam(actor.parameters(), _LEARNING_RATE)
            updates: list[Weights] = []
            for number in range(rounds):
                before = {name: value.detach().clone() for name, value in actor.named_parameters()}
                for iteration in range(_ITERATIONS):
                    first = _TRACES * (number * _ITERATIONS + iteration)
                    chosen = [traces(first + place) for place in range(_TRACES) for _ in range(_PLAYS)]
                    optimiser.zero_grad()
                    _loss(actor, chosen, sizes, generator).backward()  # type: ignore[no-untyped-call]
                    nn.utils.clip_grad_norm_(actor.parameters(), 1.0)
                    optimiser.step()
                updates.append({name: value.detach() - before[name] for name, value in actor.named_parameters()})
    finally:
        torch.set_num_threads(threads)
    return updates


def _loss(actor: nn.Module, traces: list[Trace], sizes: np.ndarray, generator: torch.Generator) -> Tensor:
    """Return what falls where choices become likelier that led to more quality than those of other plays."""
    choices: list[Tensor] = []

    def choose_rates(state: Tensor) -> np.ndarray:
        with torch.no_grad():
            choices.append(torch.multinomial(actor(state).softmax(1), 1, generator=generator)[:, 0])
        return choices[-1].numpy()

    rewards, states = simulate(choose_rates, traces, sizes)
    # The choice after a chunk counts from the next chunk on; the last one not at all.
    coming = np.zeros_like(rewards)
    for chunk in range(CHUNKS - 2, -1, -1):
        coming[:, chunk] = rewards[:, chunk + 1] + _DISCOUNT * coming[:, chunk + 1]
    grouped = torch.from_numpy(coming).float().view(-1, _PLAYS, CHUNKS)
    advantage = (grouped - grouped.mean(1, keepdim=True)).view(-1, CHUNKS)
    advantage = advantage / advantage.std().clamp_min(1e-6)
    logarithms = actor(states.flatten(0, 1)).log_softmax(1)
    taken = logarithms.gather(1, torch.stack(choices, 1).flatten()[:, None]).view(advantage.shape)
    entropy = -(logarithms.exp() * logarithms).sum(1).mean()
    loss: Tensor = -(advantage * taken).mean() - _ENTROPY * entropy
    return loss
