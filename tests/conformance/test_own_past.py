"""What any version of netpress wrote is read to the same bits: streams, updates, chains, messages of a federation."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import own_past
import pytest

import netpress
from netpress.config import names

NO_TORCH = """
import sys
sys.modules["torch"] = None
import own_past
for folder in own_past.FOLDERS.values():
    config = own_past.read_config(folder)
    if not config["needs"]:
        for _ in own_past.decoded(folder, config):
            pass
"""


def check(folder: Path) -> None:
    config = own_past.read_config(folder)
    assert json.loads(json.dumps(own_past.facts(folder, config))) == config["facts"]
    wanted = own_past.stored(folder, config)
    seen = set()
    for what, way, model in own_past.decoded(folder, config):
        products = frozenset(config.get("products", ()) if what == "reconstructed" else ())
        wrong = own_past.difference(model, wanted[what], products)
        assert wrong is None, f"{what}, by way of {way}: {wrong}"
        seen.add(what)
    assert seen == set(wanted)


@pytest.mark.parametrize("case", own_past.FOLDERS)
def test_the_past_is_read_to_the_same_bits(case: str) -> None:
    folder = own_past.FOLDERS[case]
    for package in own_past.read_config(folder)["needs"]:
        pytest.importorskip(package)
    check(folder)


def test_reading_needs_no_torch() -> None:
    path = [str(Path(own_past.__file__).parent), *sys.path]
    command = [sys.executable, "-c", f"import sys; sys.path[:] = {path!r}\n{NO_TORCH}"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_every_setting_of_the_encoder_has_a_case() -> None:
    used = {option for folder in own_past.FOLDERS.values() for option in own_past.read_config(folder)["options"]}
    used |= {current for old, current in names.OLD_NAMES.items() if old in used}
    missing = set(netpress.EncodeConfig.options()) - used
    assert not missing, f"add cases to tools/golden_own and run tools/make_golden_own.py: {sorted(missing)}"


@pytest.fixture
def copy(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    folder: Path = shutil.copytree(own_past.FOLDERS[request.param], tmp_path / "case")
    check(folder)
    return folder


@pytest.mark.parametrize("copy", ["0.1/qp-20", "0.1/update", "0.1/sequence-tca"], indirect=True)
def test_another_value_is_noticed(copy: Path) -> None:
    """One bit of one stored value, which stands for a decoder that gives another one."""
    config = own_past.read_config(copy)
    models = own_past.stored(copy, config)
    value = next(value for model in models.values() for value in model.values() if value.dtype == np.float32)
    value.view(np.uint32)[(0,) * value.ndim] ^= 1
    own_past.store(models, copy / "values.npz")
    with pytest.raises(AssertionError, match="other bits in 1 of"):
        check(copy)


@pytest.mark.parametrize("copy", ["0.1/qp-20", "0.1/update", "0.1/sequence-tca"], indirect=True)
def test_another_stream_is_noticed(copy: Path) -> None:
    """The stream of the same model with another step."""
    config = own_past.read_config(copy)
    last = sorted(copy.glob("*.nnc"))[-1]
    own = netpress.Encoder(qp=-21, differences=config["kind"] != "stream")
    last.write_bytes(own.encode(next(iter(own_past.stored(copy, config).values()))))
    with pytest.raises((AssertionError, netpress.NetpressError)):
        check(copy)


@pytest.mark.parametrize("copy", ["0.1/all-types"], indirect=True)
def test_another_type_or_order_is_noticed(copy: Path) -> None:
    wanted = own_past.stored(copy, own_past.read_config(copy))["values"]
    given = dict(wanted, float16=wanted["float16"].astype(np.float32))
    assert "is float32 of (6, 7), not float16" in str(own_past.difference(given, wanted))
    assert "has the tensors" in str(own_past.difference(dict(reversed(wanted.items())), wanted))
    assert "is <class" in str(own_past.difference(dict(wanted, bool=wanted["bool"].tolist()), wanted))
    scalar = {"s": np.zeros((), np.float32)}
    assert own_past.difference({"s": scalar["s"][()]}, scalar) is not None


@pytest.mark.parametrize("copy", ["0.1/chain", "0.1/federated"], indirect=True)
def test_a_lost_file_is_noticed(copy: Path) -> None:
    file = sorted(path for path in copy.rglob("*") if path.suffix in (".nnc", ".bin"))[-1]
    file.unlink()
    with pytest.raises((OSError, netpress.NetpressError)):
        check(copy)


def test_products_may_differ_in_their_last_bits_only() -> None:
    weight = {"w": np.linspace(-1, 1, 12, dtype=np.float32)}
    near, far = ({"w": weight["w"] * np.float32(1 + e)} for e in (1e-6, 1e-3))
    assert own_past.difference(near, weight) is not None
    assert own_past.difference(near, weight, frozenset("w")) is None
    assert own_past.difference(far, weight, frozenset("w")) is not None
