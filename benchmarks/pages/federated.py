"""docs/results/federated.md: traffic and quality of federated learning."""

from __future__ import annotations

from pages.common import load, table_lines


def federated_page() -> str:
    """docs/results/federated.md: traffic and quality of federated learning."""
    problems = load("federated")["problems"]
    titles = {
        "cifar10": "ResNet-20, CIFAR-10",
        "recsys": "recommender, MovieLens 1M",
        "digits": "small network, digits",
    }
    carriers = {
        "loop": "a loop in one process",
        "simulation": "Flower's simulation",
        "processes": "SuperLink and SuperNodes, gRPC",
    }
    rows, pictures = [], []
    for key in sorted(problems, key=lambda key: (list(titles).index(key.partition("-")[0]), key)):
        problem, name = problems[key], key.partition("-")[0]
        pairs = [(row["float32"]["metric"], row["netpress"]["metric"]) for row in problem["rows"]]
        coding = problem.get("coding_share_of_training_percent")
        rows.append(
            [
                titles[name],
                carriers[problem["engine"]],
                str(problem["steps"]),
                f"{problem['config']['memory']:g}",
                ", ".join(f"{plain:.2f} / {coded:.2f}" for plain, coded in pairs),
                f"{problem['metric_change']:+.2f}",
                f"{problem['traffic_share_percent']:.2f} %",
                "" if coding is None else f"{coding:.1f} %",
            ]
        )
        pictures.append(f"![bytes of each round, {titles[name]}, {carriers[problem['engine']]}](federated-{key}.svg)")
    settings = next(iter(problems.values()))
    lines = [
        "# Federated learning",
        "",
        "Written by `benchmarks/write_pages.py` from federated.json, which",
        "`python benchmarks/federated.py --data CORPUS --json docs/results/federated.json` makes, with `--engine` for",
        "what carries the messages, and `--steps` and `--config` for rows with other local steps and memory:",
        f"{settings['clients']} clients with shares that are not alike, {settings['rounds']} rounds, both directions",
        "and the first model counted, against FedAvg with float32. The metric in per cent is that of what the server",
        "has averaged after the last round: float32 / netpress for each seed. Coding is that of clients and server",
        "together, in shares of the clients' training, where the loop carries the messages.",
        *table_lines(
            "| problem | carried by | local steps | memory | metric | mean change | traffic | coding |",
            "llrrrrrr",
            rows,
        ),
        "",
        *pictures,
    ]
    return "\n".join(lines) + "\n"
