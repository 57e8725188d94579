"""What the evaluation wants to know of the tasks before it loads them; imports no framework."""

from __future__ import annotations

from netpress.evaluate.task_sets import TaskFacts

__all__ = ["FACTS"]

FACTS = {
    "superres-imdn-x2": TaskFacts(use_case="image super-resolution", quick_samples=2),
    "superres-imdn-x4": TaskFacts(use_case="image super-resolution", quick_samples=3),
    "superres-carn-m": TaskFacts(use_case="image super-resolution", quick_samples=2, cost=1),
    "superres-vdsr": TaskFacts(use_case="image super-resolution", quick_samples=1, cost=3),
    "denoise-dncnn": TaskFacts(use_case="image restoration", quick_samples=1, samples=6, cost=4),
    "denoise-nafnet": TaskFacts(use_case="image restoration", quick_samples=2, samples=12),
    "perceptual-mobilenet": TaskFacts(use_case="learned quality metric", quick_samples=24, samples=120),
    "image-autoencoder": TaskFacts(use_case="image compression", quick_samples=4),
    "image-autoencoder-rate": TaskFacts(use_case="image compression", quick_samples=4),
    "image-autoencoder-small": TaskFacts(use_case="image compression", quick_samples=4),
    "image-autoencoder-small-rate": TaskFacts(use_case="image compression", quick_samples=4),
    "nerf-lego": TaskFacts(use_case="scene representation", quick_samples=10, samples=100, transparent_metric=37.7),
    "nerf-hotdog": TaskFacts(use_case="scene representation", quick_samples=10, samples=100, transparent_metric=44.0),
    "inr-siren-kodim15": TaskFacts(use_case="scene representation"),
    "inr-siren-kodim23": TaskFacts(use_case="scene representation"),
    "pointcloud-autoencoder": TaskFacts(use_case="point cloud", quick_samples=64),
    "pointcloud-pointnet": TaskFacts(use_case="point cloud"),
    "cifar10-resnet20": TaskFacts(use_case="classification, convolutions", quick_samples=200, samples=1000),
    "cifar10-resnet32": TaskFacts(use_case="classification, convolutions", quick_samples=150, samples=1000),
    "cifar10-resnet56": TaskFacts(use_case="classification, convolutions", quick_samples=100, samples=1000),
    "imagenet-mobilenetv1": TaskFacts(use_case="classification, convolutions", quick_samples=12, samples=200, cost=5),
    "imagenet-darknet": TaskFacts(use_case="classification, convolutions", quick_samples=32, samples=300),
    "vgg-cifar10": TaskFacts(use_case="classification, convolutions", quick_samples=200, samples=1000),
    "vit-cifar10": TaskFacts(use_case="classification, transformer", quick_samples=100, samples=500),
    "swin-cifar10": TaskFacts(use_case="classification, transformer", quick_samples=200, samples=1000),
    "detection-fastestdet": TaskFacts(use_case="detection", quick_samples=12),
    "camvid-espnet": TaskFacts(use_case="segmentation", quick_samples=3, samples=24, cost=2),
    "kws-ds-cnn": TaskFacts(use_case="acoustic scenes", quick_samples=100, samples=1000),
    "fsdd-cnn": TaskFacts(use_case="acoustic scenes"),
    "recsys-mlp": TaskFacts(use_case="recommender", quick_samples=1000),
    "recsys-gmf": TaskFacts(use_case="recommender", quick_samples=1000),
    "pensieve": TaskFacts(use_case="adaptive bitrate", quick_samples=40),
    "pensieve-rounds": TaskFacts(use_case="adaptive bitrate", quick_samples=40),
    "sentence-minilm": TaskFacts(use_case="language", quick_samples=64, samples=300, cost=6),
    "charlm-lstm": TaskFacts(use_case="language model"),
    "charlm-decoder": TaskFacts(use_case="language model", quick_samples=64),
}
"""By name, in the order of the uses in :data:`netpress.evaluate.use_cases.USE_CASES`.

Transparent metrics: dB against the images of the float network at which the PSNR against photographs, 21.4 and 27.7 dB
after the training of these networks, is 0.1 dB lower, if the errors of network and coding are independent.
"""
