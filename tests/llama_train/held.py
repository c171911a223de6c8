"""`llama_train train` that stops at a step until a file is there: held.py STEP FILE WORD…

It stops before that step's data. So a test can interrupt it between two steps that it names,
however fast they are.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from llama_train.cli import main
from llama_train.data import TokenData

BATCH_SIZE = 8  # of the preset demo, in sequences


def hold(step: int, go: Path) -> None:
    sequence = TokenData.sequence

    def held(self: TokenData, number: int) -> Any:
        while number >= (step - 1) * BATCH_SIZE and not go.exists():
            time.sleep(0.01)
        return sequence(self, number)

    TokenData.sequence = held  # type: ignore[method-assign]


if __name__ == "__main__":
    hold(int(sys.argv.pop(1)), Path(sys.argv.pop(1)))
    main()
