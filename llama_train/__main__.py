"""`python -m llama_train …`"""

from __future__ import annotations

from llama_train.cli import main
from llama_train.host import set_thread_waiting

set_thread_waiting()  # before torch is imported
main()
