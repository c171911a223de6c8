"""`python -m llama_train …`"""

from __future__ import annotations

import os

from llama_train.cli import main
from llama_train.threads import WAITING

if "OMP_WAIT_POLICY" not in os.environ:  # the user has not chosen
    for name, value in WAITING.items():
        os.environ.setdefault(name, value)  # before torch is imported
main()
