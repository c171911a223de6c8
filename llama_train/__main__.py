"""`python -m llama_train …`"""

from __future__ import annotations

import os

from llama_train.cli import main

# Before torch is imported: on a CPU that others use too, threads that wait by spinning hold the
# core that the thread they wait for needs (seen: several times slower), and burn energy.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
main()
