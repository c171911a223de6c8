"""Commands of `llama_train` one after the other in one process: several.py -- WORD… -- WORD… …

A rank of torchrun takes seconds to start; here it does so once, and the ranks meet once.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import groupby
from typing import Any

import llama_train.world
from llama_train.cli import main

if __name__ == "__main__":
    first, met = llama_train.world.world, list[Any]()

    @contextmanager
    def same(config: Any) -> Iterator[Any]:
        if not met:
            opened = first(config)
            met.extend((opened.__enter__(), opened))  # held, so that it is not closed
        yield met[0]

    llama_train.world.world = same
    for is_end, command in groupby(sys.argv[1:], lambda word: word == "--"):
        if not is_end:
            sys.argv[1:] = command
            try:
                main()
            except SystemExit as end:
                if end.code:
                    raise
