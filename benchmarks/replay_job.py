"""A training as a projection meets it: slow first steps, even ones, and a stall now and then.

    replay_job.py SECONDS [RESULT]

Runs under either tool. For carbontrack it logs its steps; given a RESULT, which carbontracker's
environment does, it makes ten epochs of the same steps and keeps what carbontracker predicts.
"""

import json
import os
import sys
import time
from pathlib import Path

STEPS = 400
TOKENS = 4096
WARM_UP = 15  # steps that take three times as long: compilation, caches
STALL_EVERY = 97  # steps; a stall is as long as ten steps
EPOCHS = 10


def step_units(number: int) -> float:
    """How long a step takes, in even steps."""
    return (3.0 if number < WARM_UP else 1.0) + (10.0 if number % STALL_EVERY == 50 else 0.0)


def main() -> None:
    even_s = float(sys.argv[1]) / sum(step_units(number) for number in range(STEPS))
    tracker = None
    if len(sys.argv) > 2:
        from carbontracker.tracker import CarbonTracker

        tracker = CarbonTracker(epochs=EPOCHS, epochs_before_pred=1, monitor_epochs=-1)
    due_s = time.monotonic()
    marks = [time.time()]
    for number in range(STEPS):
        if tracker and number % (STEPS // EPOCHS) == 0:
            tracker.epoch_start()
        due_s += step_units(number) * even_s
        time.sleep(max(0.0, due_s - time.monotonic()))
        _log(number + 1)
        marks.append(time.time())
        if tracker and (number + 1) % (STEPS // EPOCHS) == 0:
            tracker.epoch_end()
    if tracker:
        tracker.stop()
    Path("steps.json").write_text(json.dumps(marks))


def _log(step: int) -> None:
    path = os.environ.get("CARBONTRACK_STEPS")
    if path:
        with open(path, "a") as file:  # noqa: PTH123 - the peers' Python runs this too
            line = {"step": step, "time_ms": time.time_ns() // 1_000_000, "tokens": TOKENS}
            file.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
