"""Transformers: bytes at equal divergence, whole and block by block, and the memory that each takes.

    python benchmarks/language_models.py [--only NAME ...] [--data CORPUS] [--quick] [--out FILE.json]

``sentence-minilm`` is the task of that name: an encoder of 6 blocks. ``tiny-llama`` is a LlamaForCausalLM of 6 blocks
over characters, trained here on tiny Shakespeare for a few minutes (``--network`` keeps it). Rows: NNCodec with
dependent quantisation, with and without opt_qp, vectors at qp -50; netpress without data with steps by size, calibrated
as a whole (``calibrate`` and ``quantize_model``) and block by block (``quantize_blocks``), on the same batches. The
divergence is that of the evaluation samples: Kullback-Leibler in nats per character, or the squared error of the
sentence vectors over their squares. Memory is the peak resident memory of a process of its own that quantises a Llama
with random weights from a file and writes the stream, less what it had before.

Without an environment with NNCodec (see rivals/nncodec.py) its rows are left out.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import netpress
from netpress import Task, evaluate
from netpress.evaluate.tools import Tool, stream_tool
from netpress.quantize.steps import vector_qp
from pages.language_models import language_models_table
from places import CORPUS
from rivals import nncodec
from runner import Bench

MODELS = ("tiny-llama", "sentence-minilm")
SPAN = (0.01, 0.08)
PAIRS = 64
CALIBRATION_BATCHES = 6
EFFORT = 7
CHARACTERS, CONTEXT, STEPS = 65, 96, 400
MEMORY = {"hidden_size": 512, "intermediate_size": 1376, "num_hidden_layers": 16, "num_attention_heads": 8}


def llama(**sizes: Any) -> nn.Module:
    """Return an untrained decoder."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(vocab_size=CHARACTERS, max_position_embeddings=CONTEXT, use_cache=False, **sizes)
    network: nn.Module = LlamaForCausalLM(config).eval()
    return network


def tiny_llama(data: Path, network: Path | None, quick: bool) -> Task:
    """Return a task: a decoder over characters, trained on the first 90 % of tiny Shakespeare."""
    folder = data / "charlm-lstm"
    vocabulary = json.loads((folder / "shakespeare_vocab.json").read_text(encoding="utf-8"))
    text = (folder / "tinyshakespeare.txt").read_text(encoding="utf-8")
    codes = torch.tensor([vocabulary[character] for character in text])
    before, held_back = codes[: len(codes) * 9 // 10], codes[len(codes) * 9 // 10 :]
    sizes = {"hidden_size": 96, "intermediate_size": 256, "num_hidden_layers": 6, "num_attention_heads": 4}
    trained = trained_llama(sizes, before, network, 20 if quick else STEPS)
    generator = torch.Generator().manual_seed(1)

    def passages(source: torch.Tensor, count: int) -> list[dict[str, torch.Tensor]]:
        starts = torch.randint(0, len(source) - CONTEXT - 1, (count,), generator=generator)
        rows = torch.stack([source[start : start + CONTEXT + 1] for start in starts])
        return [{"input_ids": part} for part in rows.split(16)]

    calibration, evaluation = passages(before, 96), passages(held_back, 64)

    def model() -> nn.Module:
        fresh = llama(**sizes)
        fresh.load_state_dict(trained)
        return fresh

    return Task(
        name="tiny-llama",
        model=model,
        calibration_batches=[{"input_ids": batch["input_ids"][:, :-1]} for batch in calibration],
        evaluation_batches=[{"input_ids": batch["input_ids"][:, :-1]} for batch in evaluation],
        evaluate=lambda module: bits_per_character(module, evaluation),
        metric="bits per character",
        unit="bit",
        direction="min",
        outputs="logits",
    )


def trained_llama(
    sizes: dict[str, int], codes: torch.Tensor, network: Path | None, steps: int
) -> dict[str, torch.Tensor]:
    """Return trained weights, those of an earlier run if there are any."""
    if network is not None and network.exists():
        return torch.load(network, weights_only=True)
    torch.manual_seed(0)
    module = llama(**sizes).train()
    optimizer = torch.optim.AdamW(module.parameters(), lr=3e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps, pct_start=0.1)
    for _ in range(steps):
        starts = torch.randint(0, len(codes) - CONTEXT - 1, (16,)).tolist()
        rows = torch.stack([codes[start : start + CONTEXT + 1] for start in starts])
        logits = module(input_ids=rows[:, :-1]).logits
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    print(
        f"tiny-llama: {steps} steps, {loss.item() / math.log(2):.2f} bits per character on the last batch", flush=True
    )
    if network is not None:
        torch.save(module.state_dict(), network)
    return module.state_dict()


def bits_per_character(module: nn.Module, batches: list[dict[str, torch.Tensor]]) -> np.ndarray:
    """Mean bits of each passage."""
    rows = []
    for batch in batches:
        with torch.inference_mode():
            logits = module(input_ids=batch["input_ids"][:, :-1]).logits
        nats = nn.functional.cross_entropy(logits.transpose(1, 2), batch["input_ids"][:, 1:], reduction="none")
        rows.append(nats.double().mean(1).numpy() / math.log(2))
    return np.concatenate(rows)


def netpress_tools(task: Task, module: nn.Module) -> list[Tool]:
    """Return netpress's rows."""
    batches = list(task.batches("calibration"))[:CALIBRATION_BATCHES]
    calibration = netpress.calibrate(module, batches, forward=task.forward, outputs=task.outputs)

    def free(qp: int) -> bytes:
        return netpress.encode(module, qp=qp, effort=EFFORT, allocation="size")

    def encoded(quantize: Callable[[int], Any]) -> Callable[[int], bytes]:
        return lambda qp: netpress.encode(
            module, quantized=quantize(qp), qp=qp, nonweight_qp=vector_qp(qp), effort=EFFORT
        )

    def whole(qp: int) -> Any:
        return netpress.quantize_model(module, calibration, qp=qp)

    def by_block(qp: int) -> Any:
        return netpress.quantize_blocks(
            module, batches, qp=qp, forward=task.forward, outputs=task.outputs, sensitivity_batches=None
        )

    return [
        stream_tool("without data, steps by size", free),
        stream_tool("calibrated as a whole", encoded(whole)),
        stream_tool("calibrated block by block", encoded(by_block)),
    ]


def measure(task: Task, count: int) -> dict[str, Any]:
    """Return all rows of a model."""
    bench = Bench(task, SPAN)
    with nncodec.tools(bench.module) as rivals:
        tools = [("NNCodec", tool) for tool in rivals if tool.name not in nncodec.MINOR]
        tools += [("netpress", tool) for tool in netpress_tools(task, bench.module)]
        rows = [bench.curve(codec, tool, count) for codec, tool in tools]
    return {**bench.about(), "outputs": task.outputs, "rows": rows}


def memory(data: Path, kind: str, path: Path) -> dict[str, float]:
    """Quantise and write the network of a file in this process; return the peak of added memory and the seconds."""
    torch.set_num_threads(1)
    batches = [{"input_ids": torch.randint(0, CHARACTERS, (4, CONTEXT))} for _ in range(4)]
    import transformers  # noqa: F401

    from netpress import calibration  # noqa: F401

    with netpress.empty_parameters():
        module = llama(**MEMORY)
    with tempfile.TemporaryDirectory() as folder:
        before = resident()
        start = time.perf_counter()
        if kind == "whole":
            from safetensors.torch import load_file

            module.load_state_dict(load_file(path), assign=True)
            statistics = netpress.calibrate(module, batches)
            quantized = netpress.quantize_model(module, statistics, qp=-20)
            netpress.save(module, data, quantized=quantized, qp=-20, effort=1)
        else:
            quantized = netpress.quantize_blocks(module, batches, qp=-20, source=path, folder=folder)
            netpress.save(path, data, quantized=quantized, qp=-20, effort=1)
        seconds = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    return {"added_bytes": peak, "seconds": seconds, "stream_bytes": data.stat().st_size}


def resident() -> int:
    """Return the resident memory of this process in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def measure_memory() -> dict[str, Any]:
    """Run both ways in processes of their own."""
    from safetensors.torch import save_file

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.safetensors")
        torch.manual_seed(0)
        module = llama(**MEMORY)
        state = module.state_dict()
        save_file(state, path)
        block = sum(p.numel() for p in module.model.layers[0].parameters())
        result: dict[str, Any] = {"model_bytes": path.stat().st_size, "block_bytes": 4 * block}
        del module, state
        for kind in ("whole", "blocks"):
            command = [sys.executable, __file__, "--memory", kind, str(path), str(Path(folder, "out.nnc"))]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            result[kind] = json.loads(done.stdout.strip().splitlines()[-1])
            print(f"memory, {kind}: {result[kind]}", flush=True)
    return result


def main() -> None:
    """Measure the models that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=CORPUS, help="folder laid out like the corpus")
    parser.add_argument("--only", action="append", choices=(*MODELS, "memory"), help="only this; can be repeated")
    parser.add_argument("--network", type=Path, help="keep the trained decoder in this file, and take it from there")
    parser.add_argument("--quick", action="store_true", help="few samples, qps and steps of training")
    parser.add_argument("--out", type=Path, default=Path("docs/results/language-models.json"))
    parser.add_argument("--memory", nargs=3, metavar=("KIND", "MODEL", "OUT"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.memory:
        kind, path, target = arguments.memory
        print(json.dumps(memory(Path(target), kind, Path(path))))
        return
    torch.set_num_threads(1)
    results = json.loads(arguments.out.read_text()) if arguments.out.exists() else {"models": {}}
    for name in arguments.only or (*MODELS, "memory"):
        if name == "memory":
            results["memory"] = measure_memory()
            continue
        if name == "tiny-llama":
            task = tiny_llama(arguments.data, arguments.network, arguments.quick)
        else:
            task = evaluate.load(name, data=arguments.data, limit=20 if arguments.quick else PAIRS)
        results["models"][name] = measure(task, 2 if arguments.quick else 3)
    results["models"] = {name: results["models"][name] for name in MODELS if name in results["models"]}
    results["about"] = {
        "netpress": netpress.__version__,
        "torch": torch.__version__,
        "machine": platform.machine(),
        "quick": arguments.quick,
    }
    arguments.out.write_text(json.dumps(results, indent=1) + "\n")
    print("\n".join(language_models_table(results["models"])))


if __name__ == "__main__":
    main()
