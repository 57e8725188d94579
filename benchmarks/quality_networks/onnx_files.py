"""ONNX files of public packages, run by onnxruntime on inputs that are the same every time."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from measures import Heads, Network, Result, State, same_boxes, same_decisions, suppress
from quality_networks import onnx_weights, packages

Feeds = list[dict[str, np.ndarray]]

_NUDENET_SCORE = 0.2
_TEXT, _NOTE, _ONSET, _SPEECH = 0.3, 0.3, 0.5, 0.5
"""Probabilities from which a pixel is text, a cell a note or its beginning, and a frame speech, as the packages do."""
_WORDS = (
    *("total", "amount", "street", "harbour", "2026", "invoice", "quick", "brown", "neural", "layer", "weight"),
    *("17.40", "EUR", "north", "exit", "platform", "delay", "train"),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _File:
    """What is done with a file.

    Attributes:
        inputs: feeds, from the folder of the corpus.
        outputs: of a session, named, from what it returns for a feed; a list of those of independent inputs.
        agree, decisions, logits: as in :class:`measures.Network`; the logits are probabilities.
        run: runs a session over the feeds.
    """

    inputs: Callable[[Path], Feeds]
    agree: Callable[[Heads, Heads], tuple[int, int]]
    decisions: str
    outputs: Callable[[list[np.ndarray]], Iterable[Heads]] = lambda arrays: [{"output": row} for row in arrays[0]]
    probabilities: tuple[str, int] | None = None
    run: Callable[[Any, Feeds], list[list[np.ndarray]]] | None = None


def onnx_network(name: str, data: Path, folder: Path, quick: bool = False) -> Network:
    """Return the network of an ONNX file.

    Args:
        name: of the file, without its suffix.
        data: folder of the corpus.
        folder: for the files.
        quick: whether a third of the inputs is enough.
    """
    import onnx

    file = _FILES[name]
    model = onnx.load(packages.fetch(f"{name}.onnx", folder))
    feeds = file.inputs(data)
    if quick:
        feeds = feeds[: max(1, len(feeds) // 3)]

    def run(state: State) -> Result:
        session = _session(onnx_weights.with_weights(model, state))
        arrays = [session.run(None, feed) for feed in feeds] if file.run is None else file.run(session, feeds)
        return Result([heads for found in arrays for heads in file.outputs(found)])

    tensors = onnx_weights.weights(model)
    return Network(
        name=name,
        source=tensors,
        tensors=tensors,
        run=run,
        agree=file.agree,
        decisions=file.decisions,
        logits=file.probabilities,
        has_softmax=True,
        output_axes=onnx_weights.output_axes(model),
    )


def _session(model: Any) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


# Detection of people (nudenet): boxes.


def _people(data: Path) -> Feeds:
    """Squares in the middle of the colour photographs of the corpus, 320x320."""
    from PIL import Image

    feeds = []
    for path in sorted(p for part in ("set5", "set14", "kodak") for p in (data / "image-sets" / part).glob("*.png")):
        with Image.open(path) as image:
            side = min(image.size)
            left, top = ((length - side) // 2 for length in image.size)
            square = image.convert("RGB").crop((left, top, left + side, top + side)).resize((320, 320))
        feeds.append({"images": (np.asarray(square, np.float32) / 255).transpose(2, 0, 1)[None].copy()})
    return feeds


def _people_boxes(heads: Heads) -> np.ndarray:
    x, y, width, height = heads["boxes"]
    scores = heads["scores"].max(0)
    columns = [heads["scores"].argmax(0), scores, x - width / 2, y - height / 2, x + width / 2, y + height / 2]
    boxes = np.stack(columns, 1)
    return suppress(boxes[scores > _NUDENET_SCORE])


# Reading text (PP-OCR).


def _lines(width: int, height: int, count: int, size: int) -> np.ndarray:
    """Lines of words on plain ground with noise, float32 (count, height, width, 3), 0 to 255."""
    from PIL import Image, ImageDraw, ImageFont

    generator, images = np.random.default_rng(3), []
    font = ImageFont.load_default(size)
    for _ in range(count):
        ground = int(generator.integers(170, 255))
        image = Image.new("RGB", (width, height), (ground, ground, ground - 10))
        draw = ImageDraw.Draw(image)
        for y in range(6, max(7, height - size), int(size * 1.8)):
            words = " ".join(generator.choice(_WORDS, 2 if width < 400 else 3))
            draw.text((8, y), words, fill=(int(generator.integers(0, 90)), 20, 40), font=font)
        noise = generator.normal(0, 4, (height, width, 3))
        images.append(np.clip(np.asarray(image, np.float32) + noise, 0, 255))
    return np.stack(images).astype(np.float32)


def _text_pages(_: Path) -> Feeds:
    mean, deviation = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    pages = ((_lines(320, 320, 24, 24) / 255 - mean) / deviation).astype(np.float32)
    return [{"x": page.transpose(2, 0, 1)[None].copy()} for page in pages]


def _text_lines(_: Path) -> Feeds:
    lines = (_lines(320, 48, 48, 28) / 255 - 0.5) / 0.5
    return [{"x": line.transpose(2, 0, 1)[None].copy()} for line in lines]


def _turned_lines(data: Path) -> Feeds:
    """Lines as they are, and turned by 180 degrees, in turn."""
    feeds = _text_lines(data)
    turned = [{"x": feed["x"][:, :, ::-1, ::-1].copy()} for feed in feeds]
    return [feed for pair in zip(feeds, turned, strict=True) for feed in pair]


# Kinds of files (magika).


def _file_beginnings(_: Path) -> Feeds:
    """First and last 1024 bytes of 256 files of numpy, in rows of 16."""
    files = sorted(p for p in Path(np.__file__).parent.rglob("*") if p.is_file() and p.stat().st_size > 2100)
    rows = []
    for path in files[:: max(1, len(files) // 256)][:256]:
        content = path.read_bytes()
        row = np.full(2048, 256, np.int32)
        begin, end = content[:4096].lstrip()[:1024], content[-4096:].rstrip()[-1024:]
        row[: len(begin)], row[2048 - len(end) :] = list(begin), list(end)
        rows.append(row)
    return [{"bytes": np.stack(rows[k : k + 16])} for k in range(0, len(rows) - 15, 16)]


# Notes (basic-pitch).


def _music(_: Path) -> Feeds:
    """Six notes with seven partials each in two seconds."""
    generator, feeds, count = np.random.default_rng(5), [], 43844
    for _clip in range(12):
        x, t = np.zeros(count), np.arange(count) / 22050
        for _note in range(6):
            frequency = 440 * 2 ** ((generator.integers(36, 80) - 69) / 12)
            start = int(generator.integers(0, count - 9000))
            envelope = np.exp(-3 * np.maximum(t - t[start], 0)) * (t >= t[start])
            for partial in range(1, 8):
                phase = generator.uniform(0, 6)
                x += 0.3 / partial * np.sin(2 * np.pi * frequency * partial * t + phase) * envelope
        feeds.append({"serving_default_input_2:0": (x / np.abs(x).max()).astype(np.float32)[None, :, None]})
    return feeds


def _music_outputs(arrays: list[np.ndarray]) -> Iterable[Heads]:
    onsets, notes, contours = (array[0] for array in arrays)
    return [{"onsets": onsets, "notes": notes, "contours": contours}]


def _music_decisions(heads: Heads) -> np.ndarray:
    return np.stack([heads["notes"] > _NOTE, heads["onsets"] > _ONSET])


# Speech (silero).

_FRAME, _CONTEXT, _FRAMES = 512, 64, 32


def _speech(data: Path) -> Feeds:
    """Spoken digits with pauses at 16 kHz, in frames with the 64 samples before each."""
    archive = np.load(data / "fsdd" / "test_idx0-4.npz")
    parts, generator = [], np.random.default_rng(1)
    for number in range(0, 300, 10):
        x = archive["samples"][archive["offsets"][number] : archive["offsets"][number + 1]].astype(np.float32) / 32768
        parts += [np.interp(np.arange(2 * len(x)) / 2, np.arange(len(x)), x), np.zeros(6000)]
    x = np.concatenate(parts)
    x = (x / np.abs(x).max() * 0.7 + generator.normal(0, 0.002, len(x))).astype(np.float32)
    length = _FRAME + _CONTEXT
    return [{"input": x[start : start + length][None]} for start in range(0, len(x) - length, _FRAME)]


def _run_speech(session: Any, feeds: Feeds) -> list[list[np.ndarray]]:
    """Run frame by frame with the state that the last one left; parts of a second count as independent."""
    state, found = np.zeros((2, 1, 128), np.float32), []
    for feed in feeds:
        output, state = session.run(None, {**feed, "state": state, "sr": np.array(16000, np.int64)})
        found.append(output[0, 0])
    parts = range(0, len(found) - _FRAMES + 1, _FRAMES)
    return [[np.array(found[first : first + _FRAMES])[None]] for first in parts]


_FILES = {
    "nudenet": _File(
        inputs=_people,
        outputs=lambda arrays: [{"boxes": row[:4], "scores": row[4:]} for row in arrays[0]],
        agree=same_boxes(_people_boxes),
        decisions="boxes",
    ),
    "ppocr_det": _File(
        inputs=_text_pages, agree=same_decisions(lambda heads: heads["output"] > _TEXT), decisions="pixels"
    ),
    "ppocr_rec": _File(
        inputs=_text_lines,
        agree=same_decisions(lambda heads: heads["output"].argmax(-1)),
        decisions="symbols",
        probabilities=("output", -1),
    ),
    "ppocr_cls": _File(
        inputs=_turned_lines,
        agree=same_decisions(lambda heads: heads["output"].argmax(-1)),
        decisions="top-1",
        probabilities=("output", -1),
    ),
    "magika": _File(
        inputs=_file_beginnings,
        agree=same_decisions(lambda heads: heads["output"].argmax(-1)),
        decisions="top-1",
        probabilities=("output", -1),
    ),
    "basic_pitch": _File(
        inputs=_music, outputs=_music_outputs, agree=same_decisions(_music_decisions), decisions="cells"
    ),
    "silero_vad": _File(
        inputs=_speech,
        agree=same_decisions(lambda heads: heads["output"] > _SPEECH),
        decisions="frames",
        run=_run_speech,
    ),
}
