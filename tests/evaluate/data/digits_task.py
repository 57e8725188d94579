"""A task as a user writes it: handwritten digits of scikit-learn and a small network, trained when it is asked for."""

import functools

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

from netpress import Task

TRAINED = 1200


def data():
    digits = load_digits()
    return torch.from_numpy(digits.images[:, None].astype(np.float32) / 16), torch.from_numpy(digits.target)


def network():
    convolution = [nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()]
    return nn.Sequential(*convolution, nn.Linear(256, 32), nn.ReLU(), nn.Linear(32, 10))


@functools.cache
def weights():
    torch.manual_seed(0)
    images, labels = data()
    optimizer = torch.optim.Adam((module := network()).parameters(), 1e-2)
    for rows in torch.randperm(TRAINED * 6).remainder(TRAINED).split(100):
        optimizer.zero_grad()
        nn.functional.cross_entropy(module(images[rows]), labels[rows]).backward()
        optimizer.step()
    return module.state_dict()


def model():
    module = network()
    module.load_state_dict(weights())
    return module.eval()


def task(limit=None):
    images, labels = (values[TRAINED:][:limit] for values in data())

    def evaluate(module):
        with torch.inference_mode():
            return 100.0 * (module(images).argmax(1) == labels).numpy()

    return Task(
        name="digits",
        model=model,
        evaluate=evaluate,
        metric="top-1 accuracy",
        unit="%",
        outputs="logits",
        calibration_batches=[data()[0][:200]],
        evaluation_batches=[images],
        description={"use case": "classification, convolutions", "data": "8x8 digits"},
    )
