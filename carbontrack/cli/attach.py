"""`carbontrack attach`: record a process that runs already."""

from __future__ import annotations

from typing import Annotated

import typer

from carbontrack.cli.common import DbOption
from carbontrack.cli.record_options import (
    BudgetGraceOption,
    BudgetKgOption,
    BudgetKwhOption,
    BudgetUsdOption,
    DevicesOption,
    HzOption,
    LogOption,
    MeterOption,
    NameOption,
    OnBudgetOption,
    ProjectOption,
    QuietOption,
    StepsFromLogOption,
    TagOption,
    recording,
)


def attach(
    pid: Annotated[int, typer.Argument(metavar="PID", help="The running process.")],
    name: NameOption = None,
    project: ProjectOption = None,
    tag: TagOption = None,
    db: DbOption = None,
    meter: MeterOption = "auto",
    devices: DevicesOption = "job",
    hz: HzOption = 10.0,
    steps_from_log: StepsFromLogOption = None,
    log: LogOption = None,
    budget_kg: BudgetKgOption = None,
    budget_usd: BudgetUsdOption = None,
    budget_kwh: BudgetKwhOption = None,
    on_budget: OnBudgetOption = "warn",
    budget_grace: BudgetGraceOption = 60.0,
    quiet: QuietOption = False,
) -> None:
    """Record a process that runs already, from now until it ends. Ctrl-C ends only the recording.

    Example: carbontrack attach 4711 --name llama2-7b
    """
    from carbontrack.record.attach import attach as watch

    watch(
        pid,
        recording(
            name=name,
            project=project,
            tag=tag,
            db=db,
            meter=meter,
            devices=devices,
            hz=hz,
            steps_from_log=steps_from_log,
            log=log,
            budget_kg=budget_kg,
            budget_usd=budget_usd,
            budget_kwh=budget_kwh,
            on_budget=on_budget,
            budget_grace=budget_grace,
            quiet=quiet,
        ),
    )
