"""Options that several commands take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

WEIGHTS = "A run, a Hugging Face folder or a Meta folder."

BaseOption = Annotated[Path, typer.Option("--from", metavar="DIR", help=WEIGHTS)]
ChatPresetOption = Annotated[
    str, typer.Option("--preset", metavar="NAME", help="chat-7b … chat-70b or chat-demo.")
]
OutOption = Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder to write.")]
PresetOption = Annotated[str, typer.Option("--preset", metavar="NAME", help="See `presets`.")]
DataOption = Annotated[
    Path, typer.Option("--data", metavar="DIR", help="Folder that `prepare` wrote.")
]
ResumeOption = Annotated[
    bool, typer.Option("--resume", help="Go on from the newest checkpoint in --out, if any.")
]
OverwriteOption = Annotated[
    bool, typer.Option("--overwrite", help="Replace the run that --out holds.")
]
ModelArgument = Annotated[Path, typer.Argument(metavar="DIR", help=WEIGHTS)]
