"""Check a built wheel: its size, and that nothing is in it that belongs elsewhere.

Usage: python tools/check_wheel.py WHEEL
"""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

MOST_BYTES = 950_000
ZOO = Path(__file__).resolve().parents[1] / "zoo" / "src" / "netpress_zoo"


def main() -> None:
    """Leave with a message if the wheel is not as it should be."""
    wheel = Path(sys.argv[1])
    names = {Path(name).name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("netpress/evaluate/")}
    networks = sorted(names & {path.name for path in ZOO.glob("*.py")} - {"__init__.py", "training.py"})
    if networks:
        sys.exit(f"the wheel holds parts of the zoo: {', '.join(networks)}")
    size = wheel.stat().st_size
    if size > MOST_BYTES:
        sys.exit(f"the wheel has {size} bytes, more than {MOST_BYTES}")
    print(f"{wheel.name}: {size} bytes")


if __name__ == "__main__":
    main()
