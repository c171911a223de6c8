"""`python -m llama_train …`"""

from __future__ import annotations

from llama_train.cli import main

main()
