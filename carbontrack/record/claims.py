"""Which recorder of a run reads a device of this node, where not all of them can see it.

A scheduler may show each process of a node a GPU of its own and hide the others, from the recorder
of the first one, too. Then those that join have recorders of their own for what is hidden from it,
and each takes the name of a device before it reads that: a name in the kernel of this node, which
only one process can have, and which is gone with it.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from time import monotonic, sleep
from typing import TYPE_CHECKING

from carbontrack.meters.base import Source
from carbontrack.vocabulary import DeviceKind

if TYPE_CHECKING:
    from socket import socket

_ALL_TAKEN = "all that the first recorder reads"
_LOOK_S = 0.1
_FIRST_S = 60.0  # what is waited for the first recorder


class Claims:
    """The names that a recorder of a run has."""

    def __init__(self, run_id: str) -> None:
        self._run_id = run_id
        self._taken: list[socket] = []

    def take_first(self, sources: Sequence[Source]) -> None:
        """As the run's first recorder here, which reads all of these in any case."""
        for source in sources:
            self.take(source.device.uuid)
        if self.take(_ALL_TAKEN) and self._taken:
            self._taken[-1].listen()

    def take_hidden(self, sources: Sequence[Source], has_ended: Callable[[], bool]) -> list[Source]:
        """The GPUs that the first recorder, once it has its own, and no other one reads."""
        give_up_s = monotonic() + _FIRST_S
        while not self._has_first() and not has_ended() and monotonic() < give_up_s:
            sleep(_LOOK_S)
        gpus = (source for source in sources if source.device.kind == DeviceKind.GPU)
        return [source for source in gpus if self.take(source.device.uuid)]

    def take(self, what: str) -> bool:
        """Whether it is ours now; True if that is unknown."""
        from socket import AF_UNIX, SOCK_SEQPACKET, socket  # which few runs need

        from carbontrack.record.rendezvous import address_of

        name = socket(AF_UNIX, SOCK_SEQPACKET)
        try:
            name.bind(address_of(self._run_id, what))
        except OSError as error:
            name.close()
            return error.errno != errno.EADDRINUSE
        self._taken.append(name)
        return True

    def release(self) -> None:
        """Nothing is read any more: the next attempt at the run may be on its way."""
        while self._taken:
            self._taken.pop().close()

    def _has_first(self) -> bool:
        """Whether the first recorder has taken its own."""
        from socket import AF_UNIX, SOCK_SEQPACKET, socket

        from carbontrack.record.rendezvous import address_of

        with socket(AF_UNIX, SOCK_SEQPACKET) as probe:
            probe.setblocking(False)
            return probe.connect_ex(address_of(self._run_id, _ALL_TAKEN)) != errno.ECONNREFUSED
