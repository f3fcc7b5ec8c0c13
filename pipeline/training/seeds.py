"""Seeds of steps: what is drawn in one depends on the training's seed and on the step alone."""

import hashlib


def seed_of(*parts: int) -> int:
    """62 bits that depend on all parts, so that neighbouring steps share no noise."""
    text = "/".join(map(str, parts))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 2
