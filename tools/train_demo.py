"""Train the network of ``netpress demo`` and write it, with its test images, into the package.

Usage: python tools/train_demo.py

Needs torch and scikit-learn. Takes less than a minute on one core. Seeded; other versions of torch or other processors
may still give slightly different weights.
"""

from __future__ import annotations

import argparse
from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

from netpress.demo import accuracy, predict
from netpress.files import atomic_writer
from netpress.formats import save_tensors

SEED = 1
TEST_IMAGES = 597
EPOCHS = 60
BATCH = 64
FOLDER = Path(__file__).resolve().parent.parent / "src" / "netpress" / "demo"


def make_network() -> nn.Sequential:
    """Four convolutions with batch norm, 47 000 parameters; ``netpress.demo.predict`` is the same in numpy."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for number, (inputs, outputs) in enumerate(((1, 16), (16, 32), (32, 48), (48, 48)), start=1):
        layers[f"conv{number}"] = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        layers[f"bn{number}"] = nn.BatchNorm2d(outputs)
        layers[f"relu{number}"] = nn.ReLU()
        if number == 2:
            layers["pool"] = nn.MaxPool2d(2)
    layers["flatten"] = nn.Flatten()
    layers["dropout"] = nn.Dropout(0.3)
    layers["linear"] = nn.Linear(48 * 4 * 4, 10)
    return nn.Sequential(layers)


def augment(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Shift every image of a batch by up to one pixel, brighten or darken it, and add a little noise."""
    padded = nn.functional.pad(images, (1, 1, 1, 1))
    rows, columns = torch.randint(0, 3, (2, len(images)), generator=generator)
    shifted = torch.stack(
        [image[:, r : r + 8, c : c + 8] for image, r, c in zip(padded, rows.tolist(), columns.tolist(), strict=True)]
    )
    gain = 0.8 + 0.4 * torch.rand(len(images), 1, 1, 1, generator=generator)
    return shifted * gain + 0.05 * torch.randn(images.shape, generator=generator)


def train(images: torch.Tensor, labels: torch.Tensor) -> nn.Sequential:
    """Train on images of shape (n, 1, 8, 8) with values from 0 to 1."""
    generator = torch.Generator().manual_seed(SEED)
    torch.manual_seed(SEED)
    network = make_network()
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=0.05)
    steps = EPOCHS * -(-len(images) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=3e-3, total_steps=steps)
    loss_of = nn.CrossEntropyLoss(label_smoothing=0.05)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(images), generator=generator).split(BATCH):
            optimizer.zero_grad()
            loss_of(network(augment(images[batch], generator)), labels[batch]).backward()
            optimizer.step()
            schedule.step()
    return network.eval()


def main() -> None:
    """Train, compare with the forward pass in numpy, write both files."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where to write the files")
    folder: Path = parser.parse_args().folder
    torch.set_num_threads(1)  # the order of additions, and so the weights, must not depend on the machine
    torch.use_deterministic_algorithms(True)

    digits = load_digits()
    train_x, test_x, train_y, test_y = train_test_split(
        digits.images, digits.target, test_size=TEST_IMAGES, random_state=SEED, stratify=digits.target
    )
    as_input = torch.tensor(train_x, dtype=torch.float32).unsqueeze(1) / 16
    network = train(as_input, torch.tensor(train_y))

    state = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    images = test_x.astype(np.uint8)
    with torch.no_grad():
        expected = network(torch.tensor(test_x, dtype=torch.float32).unsqueeze(1) / 16).numpy()
    difference = np.abs(predict(state, images) - expected).max()
    if difference > 1e-4:
        raise SystemExit(f"numpy and torch differ by {difference:g}")
    save_tensors(state, folder / "digits.safetensors")
    with atomic_writer(folder / "digits_test.npz") as file:
        np.savez_compressed(file, images=images, labels=test_y.astype(np.uint8))
    count = sum(parameter.numel() for parameter in network.parameters())
    print(f"{count} parameters, test accuracy {accuracy(state, images, test_y):.2%}, numpy - torch {difference:.1e}")


if __name__ == "__main__":
    main()
