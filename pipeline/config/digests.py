"""A name for settings: the same wherever they are the same."""

import hashlib
import json
from typing import Any


def digest(settings: Any) -> str:
    """16 hex digits of SHA-256 over the canonical JSON of `settings`."""
    text = json.dumps(settings, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:16]
