"""Names of this host's own devices: CPUs and memory have no serial number that anyone may read."""

from __future__ import annotations

import socket
import uuid
from pathlib import Path


def host_device_uuid(prefix: str, part: str) -> str:
    """An identity, until the next boot, of one part of this host: `CPU-…` for `package-0`.

    Made from the id of this boot: containers of one host share it, and so its CPUs, while hosts of
    one cloned image, with one machine id and one host name, do not. It cannot be read back from it.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        boot = socket.gethostname()
    name = f"carbontrack/{boot}/{part}"
    return f"{prefix}-{uuid.uuid5(uuid.NAMESPACE_URL, name)}"
