"""`llama_train` that stops at a point until a file is there: held.py POINT FILE WORD…

POINT is a step, before whose data it stops, or `draw:N`, before it draws for the prompt N. So a
test can interrupt it between two steps that it names, however fast they are.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from llama_train.chat import ChatData
from llama_train.cli import main
from llama_train.data import TokenData
from llama_train.drawing import Drawing
from llama_train.reward import PairData

BATCH_SIZE = 8  # of the preset demo, in sequences


def wait_for(go: Path) -> None:
    while not go.exists():
        time.sleep(0.01)


def hold(step: int, batch_size: int, go: Path) -> None:
    def make(data: Any) -> None:
        sequence = data.sequence

        def held(self: Any, number: int) -> Any:
            if number >= (step - 1) * batch_size:
                wait_for(go)
            return sequence(self, number)

        data.sequence = held

    for data in (TokenData, ChatData, PairData):
        make(data)


def hold_drawing(prompt: int, go: Path) -> None:
    answers = Drawing.answers

    def held(self: Drawing, prompts: Any, keys: Any) -> Any:
        if int(keys[0].split("/")[1]) >= prompt:
            wait_for(go)
        return answers(self, prompts, keys)

    Drawing.answers = held  # type: ignore[method-assign]


if __name__ == "__main__":
    point, go = sys.argv[1], Path(sys.argv[2])
    del sys.argv[1:3]
    if point.startswith("draw:"):
        hold_drawing(int(point.removeprefix("draw:")), go)
    else:
        sizes = [word.partition("=")[2] for word in sys.argv if "--train.batch_size=" in word]
        hold(int(point), int(sizes[0]) if sizes else BATCH_SIZE, go)
    main()
