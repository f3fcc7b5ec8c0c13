"""SPHERE of NIST, in which LDC publishes speech."""

import re

from pipeline.audio.containers.file_bytes import FileBytes
from pipeline.audio.containers.promise import ContainerError, Finding, held, require_nothing_behind

_FIELD = re.compile(rb"^(\w+) -(?:i|r|s\d+) (\S+)", re.MULTILINE)


def check_sphere(file: FileBytes) -> Finding:
    """Hold a SPHERE file against its header.

    Raises:
        ContainerError: it leaves its length open, more follows than it accounts for, or it is
            compressed.
    """
    start = file.at(8, 8).strip()
    fields = dict(_FIELD.findall(file.at(0, int(start)))) if start.isdigit() else {}
    coding = fields.get(b"sample_coding", b"").decode(errors="replace")
    if "," in coding:
        raise ContainerError(f"not readable as audio: SPHERE of {coding}; convert it with sph2pipe")
    try:
        counts = [
            int(fields[name]) for name in (b"sample_count", b"channel_count", b"sample_n_bytes")
        ]
    except (KeyError, ValueError):
        raise ContainerError(
            "audio does not say its length: its SPHERE header lacks a readable sample_count, "
            "channel_count or sample_n_bytes"
        ) from None
    end = int(start) + counts[0] * counts[1] * counts[2]
    require_nothing_behind(file, end)
    return held(file, end)
