"""docs/results/updates.md: one update beside NNCodec, and chains of checkpoints."""

from __future__ import annotations

from pages.common import load, table_lines


def updates_page() -> str:
    """docs/results/updates.md: one update beside NNCodec, and chains of checkpoints."""
    tuned, runs = load("fine_tuning"), load("updates")["runs"]
    ways = {
        "netpress": "`encode(new, base=old)`",
        "netpress calibrated": "the same with `quantize_model(new, calibration, base=old)`",
        "nncodec": "NNCodec, difference coding with TCA",
        "nncodec coarse": "the same with coarser steps for biases and norms",
    }
    best = [(text, tuned["best"][way]) for way, text in ways.items()]
    qps = [row["qp"] for row in tuned["rows"]]
    lines = [
        "# Updates",
        "",
        "Written by `benchmarks/write_pages.py`.",
        "",
        "## One update of ResNet-20",
        "",
        "`python benchmarks/fine_tuning.py --data CORPUS --qps -34 -32 -30 -28 -26 -24 -22 -20 -18 --json",
        "docs/results/fine_tuning.json`: fine-tuned for an epoch on 5000 images of CIFAR-10,",
        f"{tuned['before']:.2f} % before and {tuned['after']:.2f} % after. Compared are the smallest updates that lose",
        f"less than half a point, of steps from qp {min(qps)} to {max(qps)}. TCA needs an update before, so that it",
        "does nothing for a single one. Each test image is 0.05 %.",
        *table_lines(
            "| | steps | bytes | of float32 | accuracy |",
            "lrrrr",
            [
                [
                    text,
                    f"qp {row['qp']}",
                    f"{row['bytes'][-1]:,}",
                    f"{100 * row['bytes'][-1] / tuned['float_bytes']:.2f} %",
                    f"{row['accuracy']:.2f} %",
                ]
                for text, row in best
                if row is not None
            ],
        ),
        "",
        "![bytes and accuracy of an update](fine_tuning.svg)",
        "",
        "## Fifty checkpoints",
        "",
        "`python benchmarks/updates.py --rate RATE --seed SEED --steps STEPS --json docs/results/updates.json`: a",
        "small convolutional network learns scikit-learn's digits; its checkpoints as streams of their own and as a",
        "chain of updates, with default settings. The learning rate falls to 0 over the run, so that late checkpoints",
        "differ little. The plot is of the first row.",
        *table_lines(
            "| learning rate | seed | steps between checkpoints | fifty streams | chain | keyframe every 10 versions "
            "| accuracy of the last, float / chain |",
            "rrrrrrr",
            [
                [
                    f"{run['rate']:g}",
                    str(run["seed"]),
                    str(run["steps"]),
                    f"{run['rows'][0]['apart']['bytes']:,}",
                    f"{100 * run['rows'][0]['chain']['share_of_apart']:.1f} %",
                    f"{100 * run['rows'][0]['chain_keyframe_every_10']['share_of_apart']:.1f} %",
                    f"{run['accuracy_float']:.1f} / {run['rows'][0]['chain']['accuracy_last']:.1f} %",
                ]
                for run in runs
            ],
        ),
        "",
        "![bytes of each checkpoint](updates.svg)",
    ]
    return "\n".join(lines) + "\n"
