"""Every stream of attacks/ ends in its named error, in bounded memory and time."""

import os
import time
from pathlib import Path

import pytest
from streams import ATTACKS, Attack

import netpress

MEMORY, SECONDS = 64 << 20, 1.0
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")

pytestmark = pytest.mark.skipif(not CLEAR.exists(), reason="peak memory is measured the way Linux does")


def resident(field: str) -> int:
    """Bytes of resident memory: now (VmRSS) or at most (VmHWM)."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) << 10


def reset_high_water() -> None:
    """Let VmHWM start anew."""
    CLEAR.write_text("5")


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda a: f"{a.number:02}-{a.name}")
def test_attack(attack: Attack) -> None:
    data = attack.build()
    before = resident("VmRSS")
    reset_high_water()
    start = time.process_time()
    with pytest.raises(netpress.NetpressError) as caught:
        netpress.decode(data)
    used = time.process_time() - start
    assert type(caught.value) is attack.error, caught.value
    if "asan" not in os.environ.get("LD_PRELOAD", ""):  # whose notes on large areas are resident at once
        assert resident("VmHWM") - before < MEMORY
    assert used < SECONDS
    if isinstance(caught.value, (netpress.InvalidBitstream, netpress.LimitExceeded)):
        assert caught.value.unit is not None or caught.value.offset is not None or "record" in str(caught.value)


def test_every_attack_says_why() -> None:
    assert len({attack.name for attack in ATTACKS}) == len(ATTACKS)
    assert all(len(attack.rationale) > 20 for attack in ATTACKS)
