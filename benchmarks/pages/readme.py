"""The tables of README.md's first screen, from sizes.json, demo.json and quality.json."""

from __future__ import annotations

from typing import Any

from pages import quality
from pages.common import kilobytes, load

START, END = "<!-- RESULTS: written by benchmarks/write_pages.py -->", "<!-- END OF RESULTS -->"
FIRST_SCREEN = {
    "resnet56": "ResNet-56, CIFAR-10",
    "mobilenet_v1_075_224": "MobileNetV1 0.75, ImageNet",
    "vit_c10": "ViT, CIFAR-10",
    "dncnn_gray25": "DnCNN, denoising",
    "ds_cnn_l": "DS-CNN, keyword spotting",
    "shakespeare": "LSTM, characters",
    "siren_kodim15": "SIREN, one image",
}
FIRST_SCREEN_QPS = (-30, -20)


def first_screen() -> str:
    """What README shows first."""
    sizes = load("sizes")["rows"]
    demo = {row["setting"]: row for row in load("demo")}
    floats, small = demo["float32 file"], demo["qp -32"]
    smaller = sum(row["netpress"] < row["nncodec"] for row in sizes)
    same = all(row["nncodec_decodes_same_floats"] for row in sizes)
    if not same:
        raise SystemExit("NNCodec does not decode a stream of sizes.json to the same floats")
    models = len({row["model"] for row in sizes})
    most = 100 * (max(row["netpress_fed_back"] / row["netpress"] for row in sizes) - 1)
    return "\n".join(
        [
            START,
            sizes_table(sizes),
            "",
            f"Bytes at the same settings in one run; smaller in {smaller} of {len(sizes)} runs on {models} models.",
            "Both look at the weights alone here. By default netpress also steers errors by what is known of the",
            f"network, which takes at most {most:.1f} % more at the same qp; the outputs then change",
            "[far less](docs/results/default-quality.md).",
            "At coarse steps a part of the difference is a slightly larger weight error: the",
            "[results](docs/results/README.md) show it beside each size. NNCodec decodes every one of these streams to",
            f"the same floats. The digits network of the demo goes from {kilobytes(floats['bytes'])} to "
            f"{kilobytes(small['bytes'])} at qp -32, its accuracy",
            f"from {100 * floats['accuracy']:.2f} % to {100 * small['accuracy']:.2f} %.",
            "",
            *calibrated_lines(),
            END,
        ]
    )


def sizes_table(rows: list[dict[str, Any]]) -> str:
    """The models of the first screen, at two qps."""
    at = {(row["model"], row["qp"]): row for row in rows}
    heads = "".join(f" NNCodec, qp {qp} | netpress | |" for qp in FIRST_SCREEN_QPS)
    lines = [f"| model | float32 |{heads}", "|---|---:|" + "---:|---:|---:|" * len(FIRST_SCREEN_QPS)]
    for model, title in FIRST_SCREEN.items():
        cells = ""
        for qp in FIRST_SCREEN_QPS:
            row = at[model, qp]
            gain = 100 * (row["netpress"] / row["nncodec"] - 1)
            cells += f" {kilobytes(row['nncodec'])} | **{kilobytes(row['netpress'])}** | {gain:+.1f} % |"
        lines.append(f"| {title} | {kilobytes(at[model, FIRST_SCREEN_QPS[0]]['float_bytes'])} |{cells}")
    return "\n".join(lines)


def calibrated_lines() -> list[str]:
    """What calibration brings, in a sentence."""
    tasks = load("quality")["tasks"]
    first, *_, last = quality.TARGETS
    means = [quality.mean_change(quality.saving(task, at) for task in tasks.values()) for at in (first, last)]
    return [
        "With a few hundred unlabelled inputs (`netpress.compress`, `netpress.calibrate`) the gain is larger: at equal",
        f"divergence of the outputs {-100 * means[0]:.0f} to {-100 * means[1]:.0f} % fewer bytes than NNCodec's best "
        f"settings, as geometric mean over {len(tasks)}",
        "networks ([by network](docs/results/quality.md)). With retraining, even smaller: "
        "[low rank and clusters](docs/results/chain.md).",
    ]
