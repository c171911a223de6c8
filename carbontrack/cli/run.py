"""`carbontrack run`: wrap a command and record what it uses."""

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
    LiveOption,
    LogOption,
    MeterOption,
    NameOption,
    OnBudgetOption,
    ProjectOption,
    QuietOption,
    StepsFromLogOption,
    TagOption,
    need_live,
    recording,
)


def run(
    command: Annotated[
        list[str],
        typer.Argument(
            metavar="COMMAND...",
            help="The command and its options, after `--`; it runs as if we were not there.",
            show_default=False,
        ),
    ],
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
    live: LiveOption = False,
    quiet: QuietOption = False,
) -> None:
    """Run COMMAND and record its energy, training steps and outcome in the ledger.

    The job keeps its terminal, its signals and its exit code; at its end a summary goes to stderr.

    Example: carbontrack run --name llama2-7b -- torchrun train.py --lr 3e-4
    """
    from carbontrack.record import launch

    if live:
        need_live()
    launch.run(
        command,
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
        live=live,
    )
