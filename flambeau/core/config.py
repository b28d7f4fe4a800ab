"""Settings from the environment, read once; ``flambeau.config`` holds the live values."""

from __future__ import annotations

import os
from collections.abc import Callable

renderer = os.environ.get("FLAMBEAU_RENDERER", "llvm")      # "llvm" or "reference"
eager = os.environ.get("FLAMBEAU_EAGER", "") not in ("", "0")   # execute each call at once
instruction_limit = int(os.environ.get("FLAMBEAU_INSTRUCTION_LIMIT", "4096"))  # buffers pending before the stream flushes itself
pending_bytes = int(os.environ.get("FLAMBEAU_PENDING_BYTES", str(1 << 30)))
winograd = os.environ.get("FLAMBEAU_WINOGRAD", "1") not in ("", "0")     # plans depend on it: change it as backends.cpu.winograd
BEFORE_CHANGE: list[Callable[[], None]] = []        # called before a setting that plans depend on changes
