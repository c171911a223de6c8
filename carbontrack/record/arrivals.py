"""Jobs that join a recording: the devices that they can see and the first one could not.

A launcher may give each process of a node a GPU of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from carbontrack.meters.base import MeterContext, Source
from carbontrack.record.claims import Claims
from carbontrack.record.devices import MeterOpener
from carbontrack.record.messages import Hello, Plan


class Arrivals:
    """The devices of the jobs that joined, each once."""

    def __init__(
        self, plan: Plan, seen: Mapping[str, str], sources: Sequence[Source], claims: Claims
    ) -> None:
        """`seen` is by which variables the devices of `sources` were found."""
        self._plan = plan
        self._seen = [dict(seen)]
        self._sources = list(sources)
        self._claims = claims
        self._opening: list[tuple[Hello, MeterOpener]] = []

    def add(self, hello: Hello) -> None:
        """Begin to look for its devices; since it started, its processes count as the job's."""
        for source in self._sources:
            if (add_job := getattr(source, "add_job", None)) is not None:
                add_job(hello.job_pid, hello.started_ns)
        if hello.visibility in self._seen:
            return
        self._seen.append(dict(hello.visibility))
        context = MeterContext(
            job_pid=hello.job_pid, environ=hello.visibility, visible=self._plan.devices
        )
        opener = MeterOpener(self._plan.meter, context)
        opener.start()
        self._opening.append((hello, opener))

    def found(self) -> list[tuple[Hello, list[Source]]]:
        """The devices that no job before could see, of the jobs whose meters have opened since."""
        news = []
        for hello, opener in list(self._opening):
            if opener.is_alive():
                continue
            self._opening.remove((hello, opener))
            known = {source.device.uuid for source in self._sources}
            news_here = (one for one in opener.sources if one.device.uuid not in known)
            fresh = [source for source in news_here if self._claims.take(source.device.uuid)]
            self._sources += fresh
            if fresh:
                news.append((hello, fresh))
        return news
