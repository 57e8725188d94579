"""Images and sounds in a folder for each class."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
Image = pytest.importorskip("PIL.Image")

from netpress import InvalidConfig  # noqa: E402
from netpress.evaluate.classification import top_1  # noqa: E402
from netpress.evaluate.folders import image_folder, wav_folder  # noqa: E402


def save_image(path: Path, value: int, size: tuple[int, int] = (8, 8), mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value if mode == "L" else (value,) * 3).save(path)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    save_image(tmp_path / "dark" / "a.png", 0)
    save_image(tmp_path / "dark" / "deep" / "b.PNG", 51, (20, 8))
    save_image(tmp_path / "light" / "c.png", 255, (8, 30), "L")
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "readme.txt").write_text("no class")
    return tmp_path


def test_images(images: Path) -> None:
    samples = image_folder(images, size=4, mean=(0.5,), deviation=(0.5, 0.25, 0.5))
    assert samples.classes == ("dark", "light")
    assert [file.name for file in samples.files] == ["a.png", "b.PNG", "c.png"]
    (inputs, labels), (rest, _) = samples.labelled_batches(2)
    assert inputs.shape == (2, 3, 4, 4)
    assert inputs.dtype == torch.float32
    assert labels.tolist() == [0, 0]
    assert inputs[1, 0].unique().tolist() == pytest.approx([-0.6])
    assert rest[0, 1].unique().tolist() == pytest.approx([2])
    assert len(image_folder(images, size=4, limit=2)) == 2
    assert image_folder(images, size=4, mode="L").inputs(np.array([0])).shape == (1, 1, 4, 4)


def test_the_middle_is_cut_out(tmp_path: Path) -> None:
    pixels = np.zeros((4, 12, 3), np.uint8)
    pixels[:, 4:8] = 255
    (tmp_path / "one").mkdir()
    Image.fromarray(pixels).save(tmp_path / "one" / "a.png")
    assert (image_folder(tmp_path, size=4).inputs(np.array([0])) == 1).all()


def test_metric_of_a_folder(images: Path) -> None:
    class Brightness(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            mean = x.mean((1, 2, 3))
            return torch.stack([0.5 - mean, mean - 0.5], 1)

    assert top_1(Brightness(), image_folder(images, size=4)).value == 100


def test_layouts_that_do_not_fit(images: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match=r"there is no folder .*absent; wanted are images as .*absent/CLASS/NAME"):
        image_folder(tmp_path / "absent", size=4)
    with pytest.raises(InvalidConfig, match=r"no folders in .*deep, which holds b\.PNG; wanted are images"):
        image_folder(images / "dark" / "deep", size=4)
    with pytest.raises(InvalidConfig, match="2 values for 3 channels"):
        image_folder(images, size=4, mean=(0, 1))
    (images / "empty").mkdir()
    with pytest.raises(InvalidConfig, match=r"no images \(\.png, .*\) in .*empty"):
        image_folder(images, size=4)
    (images / "empty" / "x.png").write_text("no image")
    with pytest.raises(InvalidConfig, match=r"x\.png is not an image"):
        image_folder(images, size=4).inputs(np.arange(4))


def test_sounds(tmp_path: Path) -> None:
    wavfile = pytest.importorskip("scipy.io.wavfile")
    (tmp_path / "no").mkdir()
    (tmp_path / "yes").mkdir()
    wavfile.write(tmp_path / "no" / "a.wav", 100, np.array([-32768, 16384], np.int16))
    wavfile.write(tmp_path / "no" / "b.wav", 100, np.array([0, 192], np.uint8))
    wavfile.write(tmp_path / "yes" / "c.wav", 100, np.array([[0.5, -0.25]] * 9, np.float32))
    samples = wav_folder(tmp_path, rate=100, seconds=0.04)
    ((inputs, labels),) = samples.labelled_batches(8)
    assert labels.tolist() == [0, 0, 1]
    assert inputs.tolist() == [[-1, 0.5, 0, 0], [-1, 0.5, 0, 0], [0.125] * 4]
    with pytest.raises(InvalidConfig, match=r"a\.wav has 100 samples a second, wanted are 8000"):
        wav_folder(tmp_path, rate=8000, seconds=1).inputs(np.array([0]))
    (tmp_path / "yes" / "d.wav").write_text("no sound")
    with pytest.raises(InvalidConfig, match=r"d\.wav is not a \.wav file"):
        wav_folder(tmp_path, rate=100, seconds=1).inputs(np.array([3]))
