"""Decodes bodies with the Python sample: hexadecimal in, one per line; plain JSON out."""
# ruff: noqa: T201 - a script that prints

import json
import math
import runpy
import sys
from pathlib import Path
from typing import Any

SAMPLE = Path(__file__).parents[3] / "consumers" / "samples" / "subscriber.py"


def plain(value: Any) -> Any:
    """Return ``value`` as JSON can write it: it has no NaN and no infinity."""
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return [plain(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return {"$float": "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"}
    return value


if __name__ == "__main__":
    decode = runpy.run_path(str(SAMPLE))["decode"]
    for line in sys.stdin:
        print(json.dumps(plain(decode(bytes.fromhex(line)))))
