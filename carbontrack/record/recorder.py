"""The recorder: a process beside the job that turns meters and steps into ledger rows.

Its plan comes on stdin (`recorder_process.py`); it ends when the job's outcome does, or when that
pipe closes without one. Nothing that happens here can reach the job.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from carbontrack import config
from carbontrack.errors import CarbontrackError
from carbontrack.ledger.recorded_rows import Event, Recording, Run, Sensor
from carbontrack.ledger.url import db_option, journal_paths, recorded_in
from carbontrack.ledger.user import user
from carbontrack.meters import AUTO
from carbontrack.meters.base import MeterContext, Source
from carbontrack.record import ship_to
from carbontrack.record.arrivals import Arrivals
from carbontrack.record.claims import Claims
from carbontrack.record.clock import Clock, SetClock
from carbontrack.record.control import Control
from carbontrack.record.cut import cut_label
from carbontrack.record.devices import MeterOpener, RefreshTimer
from carbontrack.record.git import ask_git
from carbontrack.record.logged import LoggedLines
from carbontrack.record.messages import Outcome, Plan
from carbontrack.record.outbox import Outbox
from carbontrack.record.place import unknown_place
from carbontrack.record.process_end import is_running
from carbontrack.record.restarts import Restarts, launcher_restarts
from carbontrack.record.run_name import default_name
from carbontrack.record.sampler import Batch, Sampler
from carbontrack.record.shippers import Shippers
from carbontrack.record.steps import StepsFile
from carbontrack.record.steps_file import remove_steps_file
from carbontrack.record.this_node import boot_id, hostname, visibility
from carbontrack.record.totals import Totals
from carbontrack.record.warning import hold_stderr, to_stderr, warn
from carbontrack.redact import redact, redact_label, redact_tags, redact_text
from carbontrack.report.escape import visible
from carbontrack.units import NS_PER_S, monotonic_ns
from carbontrack.version import __version__
from carbontrack.vocabulary import EventKind, OnBudget, RunKind, Status

if TYPE_CHECKING:
    from carbontrack.meters.registry import Rejected
    from carbontrack.record.guest import Guest
    from carbontrack.record.steps_log import StepsLog

_TICK_S = 0.4  # each time that anything wakes costs more than what it then does
# A scheduler may send the job's signals to every process of the node's step, and so to us.
_IGNORED = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
)
_COMMIT_EVERY_NS = 3 * NS_PER_S // 2  # and so every 1.6 s: rows are committed within 2 s


def main() -> None:
    """Read the plan, record until the job has ended, and say in a few lines what it used."""
    for signo in _IGNORED:
        signal.signal(signo, signal.SIG_IGN)  # we end when the job does, and write first
    signal.pthread_sigmask(signal.SIG_SETMASK, [])  # the wrapper had blocked them for our start
    hold_stderr()
    code = 0
    try:
        control = Control(sys.stdin.fileno())
        control.start()
        if (plan := control.plan()) is not None:
            Recorder(plan).record(control)
    except Exception as error:
        code = 1
        reason = redact_text(f"{type(error).__name__}: {error}")
        warn(f"recording failed: {visible(reason)}")
        if os.environ.get("CARBONTRACK_DEBUG"):
            import traceback

            to_stderr(traceback.format_exc())
    os._exit(code)  # a thread that is stuck in a driver call must not hold us


class Recorder:
    """Records a run on one node."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._environ = os.environ if plan.visibility is None else plan.visibility
        self._host = hostname()
        self._clock = Clock(anchor_ms=plan.started_ms, anchor_ns=plan.started_ns)
        self._set_clock = SetClock(self._clock)
        self._steps = [self._steps_file(plan.steps_path, plan.steps_fd, plan.started_ns)]
        self._steps_paths = [plan.steps_path]
        self._job_pids = [plan.job_pid]  # of all wrappers of the run here
        self._log = _log_of(plan, self._set_clock)
        launcher = launcher_restarts(self._environ.get("TORCHELASTIC_RESTART_COUNT", ""))
        self._restarts = Restarts(launcher)
        self._totals = Totals()
        self._settings: config.Settings = {}
        self._db = recorded_in(plan.db)
        self._said: set[str | None] = set()  # warnings of which one is enough
        self._publish: Callable[[Batch, Sequence[Sensor]], None] = lambda batch, sensors: None
        self._claims = Claims(plan.run_id)
        self._rejected: Sequence[Rejected] = ()  # better meters that could not be taken

    def record(self, control: Control) -> None:
        """From now until the wrapper says that the job has ended, or is gone."""
        plan = self._plan
        context = MeterContext(job_pid=plan.job_pid, environ=self._environ, visible=plan.devices)
        opening = MeterOpener(plan.meter, context)
        opening.start()
        git = ask_git(plan.cwd, control.has_ended)
        if plan.has_summary:
            # While git and the meters work: nothing waits for this when the job has ended.
            import carbontrack.report.summary  # noqa: F401
        opening.wait(control.has_ended)
        sources = self._take(opening.sources, control.has_ended)
        if plan.is_beside and not sources:
            return
        if plan.kind == RunKind.WATCH and not sources:
            raise CarbontrackError(opening.problem or "no device")
        if opening.problem is not None and not plan.is_beside:
            # If the meter was named, even --quiet says so: an empty run looks like any other.
            say = self._warn if plan.meter == AUTO else self._alarm
            say(f"no power is recorded: {opening.problem}")
        self._rejected = opening.found.rejected
        sampler = Sampler(
            sources,
            self._clock,
            start_ns=self._plan.started_ns,
            hz=self._plan.hz,
            host=self._host,
        )
        sampler.start()
        arrivals = Arrivals(plan, visibility(self._environ), sources, self._claims)
        timer = RefreshTimer(sources, self._host)
        run = self._describe(*git())
        self._check_place()
        outbox = self._outbox(run, timer.sensors, opening.found.note)
        control.save = lambda: self._save(control.outcome, outbox)
        budget = self._budget(run, timer)
        self._publish = self._metrics(run)
        shippers = Shippers(plan, self._db, self._host, self._warn, self._alarm)
        shippers.start(self._settings)

        def happened() -> list[Event]:
            # Others date theirs by the system's clock as it is.
            shipped = [replace(one, time_ms=self._set_clock.now_ms()) for one in shippers.events()]
            return [*budget(), *shipped]

        outcome = self._watch(control, sampler, outbox, timer, happened, arrivals)
        ends_with_wrapper = outcome is not None and outcome.ends_with_wrapper
        shippers.end(_ended_ns(outcome), ends_with_wrapper=ends_with_wrapper)
        self._finish(outcome, sampler, outbox, run, timer, happened, shippers)
        if not ends_with_wrapper:
            control.release()
        outbox.tidy()
        shippers.finish()

    def _steps_file(self, path: str | None, descriptor: int | None, started_ns: int) -> StepsFile:
        """What a job logs that began then."""
        started_ms = self._clock.wall_ms(started_ns)
        return StepsFile(path, descriptor, started_ms=started_ms, clock=self._set_clock)

    def _take(self, sources: Sequence[Source], has_ended: Callable[[], bool]) -> Sequence[Source]:
        """Those that are ours to read."""
        if self._plan.is_beside:
            return self._claims.take_hidden(sources, has_ended)
        if self._plan.is_shared:  # else nobody else is of this run
            self._claims.take_first(sources)
        return sources

    def _watch(
        self,
        control: Control,
        sampler: Sampler,
        outbox: Outbox,
        timer: RefreshTimer,
        happened: Callable[[], list[Event]],
        arrivals: Arrivals,
    ) -> Outcome | None:
        commit_ns = 0
        while True:
            ended = control.wait(_TICK_S)
            self._welcome(control.joined(), arrivals)
            if ended:
                return control.outcome
            if timer.ident is None:
                timer.start()  # a job that ends at once would wait for what it imports
            sampler.rescue()
            for hello, sources in arrivals.found():
                start_ns = max(hello.started_ns, self._plan.started_ns)
                sampler.add(sources, start_ns=start_ns)
                timer.add(sources)
            now_ns = monotonic_ns()
            if now_ns >= commit_ns:
                commit_ns = now_ns + _COMMIT_EVERY_NS
                batch = sampler.drain()
                self._put(outbox, batch, self._read_steps())
                outbox.put(events=happened())
                if (changed := timer.changed(sampler.by_power)) is not None:
                    outbox.describe(changed)
                outbox.send(batch.as_of_ms)
                self._publish(batch, timer.sensors)
                import carbontrack.record.lasting  # noqa: F401

                _collect_from_now_on()

    def _welcome(self, guests: Sequence[Guest], arrivals: Arrivals) -> None:
        """Jobs of the run whose wrappers have joined."""
        for guest in guests:
            hello = guest.hello
            self._job_pids.append(hello.job_pid)
            self._steps_paths.append(hello.steps_path)
            self._steps.append(self._steps_file(hello.steps_path, guest.steps_fd, hello.started_ns))
            arrivals.add(hello)

    def _finish(
        self,
        outcome: Outcome | None,
        sampler: Sampler,
        outbox: Outbox,
        run: Run,
        timer: RefreshTimer,
        happened: Callable[[], list[Event]],
        shippers: Shippers,
    ) -> None:
        end_ns = _ended_ns(outcome)
        end = self._end(outcome, end_ns)
        batch = sampler.finish(end_ns)
        self._claims.release()
        self._put(outbox, batch, self._read_steps(ended=True))
        outbox.put(events=happened())
        if (changed := timer.changed(sampler.by_power)) is not None:
            outbox.describe(changed)
        written = outbox.finish(**end, heartbeat_ms=self._set_clock.now_ms())
        for pid, path in zip(self._job_pids, self._steps_paths, strict=True):
            if outcome is not None or not is_running(pid):
                remove_steps_file(path)  # a job that goes on may still write it
        if self._plan.quiet and (trouble := self._trouble_with_log()):
            self._alarm(f"{trouble}.")  # it was asked for
        waits = shippers.last_to_server() if written else "db recover"
        if outcome is not None and self._plan.has_summary:
            ended = replace(run, **end, model=self._totals.model)
            ledger = outbox.ledger if self._db == self._plan.db else self._plan.db
            self._print_summary(ended, timer.sensors, ledger, waits=waits)

    def _save(self, outcome: Outcome | None, outbox: Outbox) -> None:
        """What is held, before we are ended."""
        outbox.save(**self._end(outcome, _ended_ns(outcome)), heartbeat_ms=self._set_clock.now_ms())

    def _end(self, outcome: Outcome | None, end_ns: int) -> dict[str, Any]:
        """Status, exit code and end in ms, as a recording has them."""
        status, exit_code = _status_of(outcome)
        ended_ms = self._clock.wall_ms(end_ns)
        return {"status": status, "exit_code": exit_code, "ended_ms": ended_ms}

    def _put(self, outbox: Outbox, batch: Batch, logged: LoggedLines) -> None:
        steps = self._totals.add(batch.windows, logged)
        outbox.put(
            windows=batch.windows,
            steps=steps,
            events=[*batch.events, *(replace(event, host=self._host) for event in logged.events)],
            model=logged.model,
        )

    def _read_steps(self, *, ended: bool = False) -> LoggedLines:
        was_set = self._set_clock.look()
        sources: list[StepsFile | StepsLog] = [*self._steps]
        if self._log is not None:
            sources.insert(0, self._log)
        logged = LoggedLines()
        for source in sources:
            logged = source.read(ended=ended) + logged
        problems = {source.problem for source in sources}
        for problem in problems - {None, *self._said}:
            self._said.add(problem)
            # A log was asked for: as with a meter, even --quiet says that it is none.
            say = self._alarm if self._log and problem == self._log.problem else self._warn
            say(f"steps are no longer read: {problem}.")
        return self._restarts.take(replace(logged, events=[*was_set, *logged.events]))

    def _describe(self, commit: str | None, dirty: bool | None) -> Run:
        plan = self._plan
        command = redact(plan.command)
        return Run(
            id=plan.run_id,
            kind=RunKind(plan.kind),
            name=cut_label(redact_label(plan.name) if plan.name else default_name(command)),
            project=plan.project and cut_label(redact_label(plan.project)),
            tags={cut_label(k): cut_label(v) for k, v in redact_tags(plan.tags).items()},
            command=command,
            cwd=redact_label(plan.cwd),
            user=user(),
            git_commit=commit,
            git_dirty=dirty,
            started_ms=plan.started_ms,
            facility=self._facility(),
            model={},
            scheduler=plan.scheduler,
            cluster=plan.cluster,
            job_id=plan.job_id,
            array_index=plan.array_index,
            account=plan.account,
            partition=plan.partition,
            nodes_expected=plan.nodes_expected,
        )

    def _facility(self) -> dict[str, Any]:
        """What was given, and is configured where the job runs; reports use it by default."""
        try:
            around = config.surroundings(
                folder=Path(self._plan.cwd),
                skip=lambda error: self._warn(f"settings are not recorded: {error}"),
            )
            given = config.Layer("flag", self._plan.facility)
            self._settings = config.resolve([given, *around])
            return config.values(self._settings)
        except CarbontrackError as error:
            self._warn(f"the facility's settings are not recorded: {error}")
            return {}

    def _check_place(self) -> None:
        """A zone was asked for: as with a meter, even --quiet says that it is none, and at once."""
        plan = self._plan
        if plan.is_beside or ship_to.named(plan.ship, self._settings):
            return  # another says so; the collector may know it
        if trouble := unknown_place(self._settings, plan.db):
            self._alarm(trouble)

    def _outbox(self, run: Run, sensors: Sequence[Sensor], note: str) -> Outbox:
        plan = self._plan
        recording = Recording(
            id=plan.recording_id,
            host=self._host,
            boot_id=boot_id(),
            recorder_version=__version__,
            settings={
                "meter": plan.meter,
                "devices": plan.devices,
                "hz": plan.hz,
                "note": note,
                **({"budget": plan.budget} if plan.budget else {}),
            },
            started_ms=run.started_ms,
            heartbeat_ms=self._set_clock.now_ms(),
            restart=plan.restart,
        )
        journals = journal_paths(self._db, recording.id)
        return Outbox(self._db, journals, run, recording, sensors, self._warn, self._alarm)

    def _budget(self, run: Run, timer: RefreshTimer) -> Callable[[], list[Event]]:
        """Check the budgets: events, also printed on stderr. Nothing if none is set."""
        plan = self._plan
        if not plan.budget:
            return list
        from carbontrack.account.budget import Budget
        from carbontrack.account.estimate import estimate_run
        from carbontrack.record.budget import BudgetWatch
        from carbontrack.report.summary import factors_of

        factors, trouble = factors_of(run)
        watch = BudgetWatch(
            Budget(**plan.budget),
            stop=plan.on_budget == OnBudget.STOP,
            grace_s=plan.budget_grace_s,
            job_pids=self._job_pids,
            trouble=trouble,
        )

        def look() -> list[Event]:
            time_ms = self._set_clock.now_ms()
            so_far = replace(run, heartbeat_ms=time_ms)
            sensors = timer.sensors  # by now other jobs may have brought theirs
            usage, steps = self._totals.usage(sensors), self._totals.steps()
            notices = watch.look(
                estimate_run(so_far, sensors, usage, steps, factors), monotonic_ns()
            )
            for notice in notices:
                self._warn(f"{notice}.")
            return [Event(time_ms, EventKind.BUDGET, notice, host=self._host) for notice in notices]

        return look

    def _metrics(self, run: Run) -> Callable[[Batch, Sequence[Sensor]], None]:
        """Serve Prometheus metrics: what is to be done after each commit. Nothing if none are asked
        for, or they cannot be served.
        """
        plan = self._plan
        if plan.metrics_port is None:
            return self._publish
        from carbontrack.account.estimate import estimate_run
        from carbontrack.record.metrics import Metrics
        from carbontrack.report.summary import factors_of

        factors, _ = factors_of(run)
        metrics = Metrics(run, self._host)
        try:
            metrics.serve(plan.metrics_address, plan.metrics_port)
        except Exception as error:  # whatever it is, recording goes on
            where = f"{plan.metrics_address}:{plan.metrics_port}"
            self._alarm(f"no metrics are served on {where}: {error}.")
            return self._publish

        def publish(batch: Batch, sensors: Sequence[Sensor]) -> None:
            so_far = replace(run, heartbeat_ms=batch.as_of_ms)
            usage, steps = self._totals.usage(sensors), self._totals.steps()
            try:
                estimate = estimate_run(so_far, sensors, usage, steps, factors)
                metrics.update(
                    batch.as_of_ms,
                    sensors,
                    usage,
                    batch.windows,
                    estimate,
                    steps.steps,
                    set_ms=self._set_clock.set_ms,
                )
            except Exception as error:
                self._alarm(f"the metrics stay as they are: {type(error).__name__}: {error}.")
                self._publish = lambda batch, sensors: None

        return publish

    def _print_summary(
        self, run: Run, sensors: Sequence[Sensor], ledger: str, *, waits: str
    ) -> None:
        from carbontrack.report.summary import summary_text

        usage, steps = self._totals.usage(sensors), self._totals.steps()
        text = summary_text(
            run,
            sensors,
            usage,
            steps,
            db_option(ledger),
            budget=self._plan.budget,
            waits=waits,
            trouble=[*self._totals.dropped(), *filter(None, [self._trouble_with_log()])],
            missing={one.name: one.reason for one in self._rejected},
        )
        to_stderr(text)

    def _trouble_with_log(self) -> str:
        """Why there are no steps from the log; empty if there are, or none was asked for."""
        return "" if self._log is None else self._log.trouble()

    def _warn(self, message: str) -> None:
        if not self._plan.quiet:
            self._alarm(message)

    def _alarm(self, message: str) -> None:
        """Warnings that are printed even with --quiet."""
        warn(visible(message))


def _log_of(plan: Plan, clock: SetClock) -> StepsLog | None:
    """The log to read steps from, if there is one."""
    if plan.log_path is None or plan.steps_pattern is None:
        return None
    from carbontrack.record.steps_log import StepsLog

    return StepsLog(
        plan.log_path,
        plan.steps_pattern,
        started_ms=plan.started_ms,
        before=plan.log_before,
        clock=clock,
    )


def _collect_from_now_on() -> None:
    """Let garbage be collected again, but not looked for among what was imported."""
    if not gc.isenabled():
        gc.freeze()
        gc.enable()


def _ended_ns(outcome: Outcome | None) -> int:
    """When the job ended; now, if that was not seen."""
    return outcome.ended_ns if outcome else monotonic_ns()


def _status_of(outcome: Outcome | None) -> tuple[Status, int | None]:
    if outcome is None:
        return Status.INTERRUPTED, None
    return (Status.FAILED if outcome.exit_code else Status.COMPLETED), outcome.exit_code
