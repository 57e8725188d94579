"""Writes the measured tables of README.md and the pages in docs/results from the JSON files there.

    python benchmarks/write_pages.py [--check]

The JSON files come from the scripts beside this one (``--json``) and from ``netpress demo --json``; each page is a
module of the package ``pages``. With ``--check`` nothing is written: a page that is not fresh is an error.
"""

from __future__ import annotations

import re
import sys

from pages import (
    chain,
    default_quality,
    evaluation,
    federated,
    language_models,
    promise,
    quality,
    rate_distortion,
    readme,
    results,
    updates,
)
from places import RESULTS, ROOT

PAGES = {
    "README": results.results_page,
    "chain": chain.chain_page,
    "quality": quality.quality_page,
    "promise": promise.promise_page,
    "rate-distortion": rate_distortion.rate_distortion_page,
    "default-quality": default_quality.default_quality_page,
    "language-models": language_models.language_models_page,
    "evaluation": evaluation.evaluation_page,
    "federated": federated.federated_page,
    "updates": updates.updates_page,
}
"""Name of the file in docs/results -> function that makes it."""


def main() -> None:
    """Write the pages, or check that they are fresh."""
    front = ROOT / "README.md"
    text = front.read_text(encoding="utf-8")
    filled = re.sub(r"<!-- RESULTS.*?<!-- END OF RESULTS -->", lambda _: readme.first_screen(), text, flags=re.DOTALL)
    pages = {front: filled, **{RESULTS / f"{name}.md": page() for name, page in PAGES.items()}}
    for path, content in pages.items():
        if "--check" not in sys.argv[1:]:
            path.write_text(content, encoding="utf-8")
        elif path.read_text(encoding="utf-8") != content:
            raise SystemExit(f"{path.name} is not fresh: run benchmarks/write_pages.py")


if __name__ == "__main__":
    main()
