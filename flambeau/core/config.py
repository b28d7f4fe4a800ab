"""Settings from the environment, read once; ``flambeau.config`` holds the live values."""

from __future__ import annotations

import os

renderer = os.environ.get("FLAMBEAU_RENDERER", "llvm")      # "llvm" or "reference"
eager = os.environ.get("FLAMBEAU_EAGER", "") not in ("", "0")   # execute each call at once
instruction_limit = int(os.environ.get("FLAMBEAU_INSTRUCTION_LIMIT", "4096"))  # buffers pending before the stream flushes itself
pending_bytes = int(os.environ.get("FLAMBEAU_PENDING_BYTES", str(1 << 30)))
