"""`plan`: what a training would take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from llama_train.cli.options import PresetOption
from llama_train.errors import TrainError
from llama_train.vocabulary import Format


def plan(
    context: typer.Context,
    preset: PresetOption = "",
    chat: Annotated[
        bool, typer.Option("--chat", help="The stages of Llama 2-Chat, of all four sizes.")
    ] = False,
    gpus: Annotated[int, typer.Option(help="How many.")] = 1,
    device: Annotated[
        str, typer.Option(help="As the driver names it, or A100, B200, …")
    ] = "NVIDIA A100-SXM4-80GB",
    peak: Annotated[
        float | None,
        typer.Option(help="TFLOP/s of dense bfloat16. Default: the device's data sheet."),
    ] = None,
    memory: Annotated[
        float | None, typer.Option(help="GiB of a GPU. Default: the device's data sheet.")
    ] = None,
    mfu: Annotated[
        float | None,
        typer.Option(help="0 … 1. Default: what the published hours imply, else 0.4."),
    ] = None,
    run: Annotated[
        Path | None, typer.Option(help="The --out folder of a run: plan with its measured MFU.")
    ] = None,
    power: Annotated[
        float | None, typer.Option(help="W per GPU. Default: the report's on its A100, else rated.")
    ] = None,
    pue: Annotated[float | None, typer.Option(help="Default: the report's 1.1.")] = None,
    intensity: Annotated[
        float | None, typer.Option(help="kgCO2e/kWh. Default: the report's 0.385.")
    ] = None,
    price: Annotated[float | None, typer.Option(help="Money per GPU-hour.")] = None,
    form: Annotated[
        Format, typer.Option("--format", metavar="text|json", help="For people, or for programs.")
    ] = Format.TEXT,
) -> None:
    """Estimate memory per GPU, time, energy, carbon and money of a training, without any GPU."""
    from llama_train import config as configs
    from llama_train import plan as planning
    from llama_train import plan_chat
    from llama_train import presets as models

    if chat:
        if preset or run is not None or price is not None or context.args:
            raise TrainError(
                "--chat plans all sizes: it takes no --preset, --run, --price or setting."
            )
        costs = plan_chat.plan_chat(
            planning.device(device, peak_tflops=peak, memory_gib=memory),
            mfu=mfu,
            power_w=power,
            pue=pue,
            intensity=intensity,
        )
        print(plan_chat.as_json(costs) if form is Format.JSON else plan_chat.as_text(costs))
        return
    if not preset:
        raise TrainError("Nothing to plan.", hint="Name a --preset, or --chat.")
    result = planning.plan(
        configs.override(models.preset(preset), context.args),
        gpus=gpus,
        device=planning.device(device, peak_tflops=peak, memory_gib=memory),
        mfu=planning.measured_mfu(run) if run is not None and mfu is None else mfu,
        power_w=power,
        pue=pue,
        intensity=intensity,
        price=price,
    )
    print(planning.as_json(result) if form is Format.JSON else planning.as_text(result))
