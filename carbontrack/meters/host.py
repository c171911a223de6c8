"""Names of this host's own devices: CPUs and memory have no serial number that anyone may read."""

from __future__ import annotations

import socket
import uuid
from pathlib import Path


def host_device_uuid(prefix: str, part: str) -> str:
    """A stable identity for one part of this host, such as `CPU-…` for `package-0`.

    Made from machine id and host name together: containers of one image share the former, and
    clusters are known to reuse the latter. Neither can be read back from it.
    """
    try:
        machine = Path("/etc/machine-id").read_text().strip()
    except OSError:
        machine = ""
    name = f"carbontrack/{machine}/{socket.gethostname()}/{part}"
    return f"{prefix}-{uuid.uuid5(uuid.NAMESPACE_URL, name)}"
