"""Parts of networks that a metric alone would not show to be wrong."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("netpress_zoo")

from netpress_zoo import charlm_decoder, pensieve_rounds, swin_cifar10  # noqa: E402
from netpress_zoo.autoencoder_small import SmallImageAutoencoder  # noqa: E402
from netpress_zoo.distortions import GRADES, KINDS, distorted  # noqa: E402
from netpress_zoo.nafnet import NAFNet  # noqa: E402
from netpress_zoo.pensieve import CHUNKS, Actor, play  # noqa: E402
from netpress_zoo.perceptual import PerceptualDistance  # noqa: E402
from netpress_zoo.rounding import round_through  # noqa: E402


def picture() -> np.ndarray:
    """Smooth waves with an edge, uint8 (48, 64, 3)."""
    y, x = np.mgrid[:48, :64]
    values = 120 + 60 * np.sin(x / 5)[..., None] * np.cos(y / 7 + np.arange(3)[:, None, None]).transpose(1, 2, 0)
    values[:, 29:] += 50
    return values.round().clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("kind", KINDS)
def test_distortions_grow_and_repeat(kind: str) -> None:
    original = picture()
    copies = [distorted(original, kind, grade, seed=3) for grade in range(GRADES)]
    errors = [np.square(copy.astype(float) - original).mean() for copy in copies]
    assert errors == sorted(errors)
    assert errors[0] > 0
    assert all(copy.shape == original.shape and copy.dtype == np.uint8 for copy in copies)
    assert np.array_equal(copies[2], distorted(original, kind, 2, seed=3))


def test_perceptual_distance_is_one() -> None:
    """No distance to itself, the same both ways, more for more noise; pairs of a batch do not mix."""
    torch.manual_seed(0)
    network = PerceptualDistance().eval()
    first = torch.rand(3, 32, 32) * 2 - 1
    near, far = (first + amount * torch.randn(first.shape) for amount in (0.05, 0.5))
    with torch.no_grad():
        found = network(torch.stack([torch.stack(pair) for pair in ((first, first), (first, far), (far, first))]))
        alone = network(torch.stack([first, near])[None])
    assert found[0].item() == pytest.approx(0, abs=1e-6)
    assert found[1].item() == pytest.approx(found[2].item(), rel=1e-4)
    assert 0 < alone[0].item() < found[1].item()


def test_decoder_sees_no_character_that_follows() -> None:
    torch.manual_seed(0)
    network = charlm_decoder.CharacterDecoder().eval()
    codes = torch.randint(0, 65, (1, 40))
    changed = codes.clone()
    changed[0, 25] = (changed[0, 25] + 1) % 65
    with torch.no_grad():
        difference = (network(codes) - network(changed)).abs().amax(2)[0]
    assert difference[:25].max() < 1e-6
    assert difference[25:].min() > 1e-6


@pytest.mark.parametrize("shift", [0, 2])
def test_windows_keep_tokens_apart(shift: int) -> None:
    """A token reaches those that share a window of 4x4 with it, after the shift, and that were neighbours before."""
    torch.manual_seed(0)
    attention = swin_cifar10._WindowAttention(width=12, heads=3, side=8, shift=shift).eval()
    x = torch.randn(1, 8, 8, 12)
    changed = x.clone()
    changed[0, 1, 7] += 1
    with torch.no_grad():
        reached = ((attention(x) - attention(changed)).abs().amax(3)[0] > 1e-7).numpy()
    wanted = np.zeros((8, 8), bool)
    if shift:
        wanted[0:2, 6:8] = True  # a corner window, cut from its other parts by the mask
    else:
        wanted[0:4, 4:8] = True
    assert np.array_equal(reached, wanted)


def test_images_of_a_batch_do_not_mix() -> None:
    torch.manual_seed(0)
    network = swin_cifar10.SwinTransformer().eval()
    images = torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        assert torch.allclose(network(images)[1:2], network(images[1:2]), atol=1e-5)


@pytest.mark.parametrize("size", [(8, 8), (9, 14), (31, 5)])
def test_restoration_keeps_the_size(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    images = torch.rand(2, 1, *size)
    with torch.no_grad():
        assert NAFNet().eval()(images).shape == images.shape


def test_small_autoencoder_has_the_size_of_the_core_experiment() -> None:
    network = SmallImageAutoencoder()
    assert sum(parameter.numel() for parameter in network.parameters()) == pytest.approx(76_000, rel=0.02)
    assert network.encode(torch.zeros(1, 3, 32, 48)).shape == (1, 17, 4, 6)


def test_updates_add_up() -> None:
    """The layers with all updates give what the sum of the weights gives, and the updates alone are the state."""
    torch.manual_seed(0)
    first, *updates = (Actor().state_dict() for _ in range(4))
    actor = Actor()
    actor.load_state_dict({name: sum(part[name] for part in (first, *updates)) for name in first})
    rounds = pensieve_rounds.Rounds(first, updates)
    states = torch.rand(5, 6, 8)
    with torch.no_grad():
        assert torch.allclose(rounds(states), actor(states), atol=1e-5)
    assert sum(value.numel() for value in rounds.state_dict().values()) == 3 * sum(v.numel() for v in first.values())


def test_a_policy_learns(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that asks for too much learns to ask for less; the same twice."""
    for name, value in {"_ITERATIONS": 6, "_TRACES": 2, "_PLAYS": 8, "_LEARNING_RATE": 0.01}.items():
        monkeypatch.setattr(pensieve_rounds, name, value)
    sizes = np.outer([300, 750, 1200, 1850, 2850, 4300], np.full(CHUNKS + 1, 4000 / 8)).astype(np.int64)

    def slow_link(seed: int) -> tuple[np.ndarray, np.ndarray]:
        return np.arange(300.0), np.full(300, 0.9 + 0.01 * (seed % 7))

    torch.manual_seed(0)
    actor = Actor().eval()
    with torch.no_grad():
        actor.fc_out.bias += torch.arange(6) / 2
    first = {name: value.clone() for name, value in actor.state_dict().items()}
    before = play(actor, [slow_link(3)], sizes)[0].item()
    (update,) = pensieve_rounds.learn(actor, sizes, slow_link, rounds=1)
    assert play(actor, [slow_link(3)], sizes)[0].item() > before + 1
    again = Actor().eval()
    again.load_state_dict(first)
    (same,) = pensieve_rounds.learn(again, sizes, slow_link, rounds=1)
    assert all(torch.equal(same[name], value) for name, value in update.items())
    assert all(torch.allclose(first[name] + value, actor.state_dict()[name]) for name, value in update.items())


def test_rounding_lets_gradients_through() -> None:
    values = torch.tensor([0.5, 1.5, -0.7], requires_grad=True)
    rounded = round_through(values)
    assert rounded.tolist() == [0, 2, -1]
    (rounded * torch.tensor([1.0, 2.0, 3.0])).sum().backward()
    assert values.grad is not None
    assert values.grad.tolist() == [1, 2, 3]
