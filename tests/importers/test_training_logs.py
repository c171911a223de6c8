"""The named patterns, each on lines as its training writes them."""

from __future__ import annotations

import json
import re

import pytest

from carbontrack.importers.training_logs import NAMED, json_steps, named_for

LINES = {
    "torchtitan": (
        "[rank0]:[titan] 2025-12-17 01:18:26,708 - root - INFO - \x1b[31mstep:  7  \x1b[32mloss: "
        "12.4153  \x1b[38;2;180;60;0mgrad_norm:  8.2782  memory: 87GiB  \x1b[34mtps: 945",
        {"time": "2025-12-17 01:18:26,708", "step": "7", "loss": "12.4153", "grad_norm": "8.2782"},
    ),
    "litgpt": (
        "Epoch 1 | iter 64 step 4 | loss train: 1.995, val: n/a | iter time: 350.06 ms (step)",
        {"step": "4", "loss": "1.995"},
    ),
    "nanogpt": (
        "iter 40: loss 6.2081, time 48.67ms, mfu 10.07%",
        {"step": "40", "loss": "6.2081"},
    ),
    "build-nanogpt": ("17 train 9.624834", {"step": "17", "loss": "9.624834"}),
    "modded-nanogpt": (
        "step:125/1393 train_loss:6.9 train_time:90ms step_avg:nanms",
        {"step": "125", "loss": "6.9"},
    ),
    "llm.c": (
        "step   12/19560 | loss 10.98 (+nanz)| norm 15.2 (+nanz)| lr 8.57e-07 | 990.12 ms | 35.7% "
        "bf16 MFU | 529488 tok/s",
        {
            "step": "12",
            "loss": "10.98",
            "grad_norm": "15.2",
            "lr": "8.57e-07",
            "tokens_per_s": "529488",
        },
    ),
    "megatron": (
        " [2026-05-29 03:52:45] iteration      300/     300 | consumed samples: 307200 | consumed "
        "tokens: 1.258B | learning rate: 1.100E-05 | lm loss: 1.504590E+00 | grad norm: 0.623 |",
        {
            "time": "2026-05-29 03:52:45",
            "step": "300",
            "tokens_total": "1.258B",
            "lr": "1.100E-05",
            "loss": "1.504590E+00",
            "grad_norm": "0.623",
        },
    ),
    "llm-foundry": ("[epoch=1][batch=3/5]:", {"step": "3"}),
    "trl": (
        "{'step': 1, 'loss': 2.2344, 'num_tokens': 51486.0}",
        {"step": "1", "loss": "2.2344", "tokens_total": "51486.0"},
    ),
    "huggingface": (
        "{'loss': '2.23', 'grad_norm': 17.1, 'learning_rate': 0.0002, 'num_input_tokens_seen': 9}",
        {"loss": "2.23", "grad_norm": "17.1", "lr": "0.0002", "tokens_total": "9"},
    ),
}


@pytest.mark.parametrize("name", NAMED)
def test_each_pattern_reads_its_lines_and_no_other_does_better(name: str) -> None:
    line, values = LINES[name]
    match = re.search(NAMED[name], re.sub(r"\x1b\[[0-9;]*m", "", line))
    assert match is not None
    assert {k: v for k, v in match.groupdict().items() if v is not None} == values
    assert named_for([line, "something else"]) == name


def test_what_no_training_writes() -> None:
    assert named_for(["Dear diary,", "step 3 of the stairs"]) is None


def test_steps_of_json() -> None:
    history = [
        {"step": 5, "loss": 2.0, "learning_rate": 1e-3, "num_input_tokens_seen": 100},
        {"step": 5, "eval_loss": 1.9},
        {"step": 10, "loss": 1.0, "grad_norm": 0.5},
    ]
    wanted = [
        {"step": 5, "loss": 2.0, "lr": 1e-3, "tokens_total": 100},
        {"step": 10, "loss": 1.0, "grad_norm": 0.5},
    ]
    assert json_steps(json.dumps({"log_history": history}, indent=1)) == wanted
    lines = [json.dumps({"current_steps": s, "loss": 0.5, "lr": 0.1}) for s in (10, 20)]
    assert json_steps("\n".join([*lines, "{cut"])) == [
        {"step": s, "loss": 0.5, "lr": 0.1} for s in (10, 20)
    ]
    assert json_steps("step 1 loss 2") is None
