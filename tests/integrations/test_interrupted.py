"""A training that ends by an exception, and the next one of the same process: two runs, as cells of
a notebook make them, with the real frameworks.
"""

from __future__ import annotations

import pytest

from tests.fixtures.wrap import Wrapper, warnings_in
from tests.integrations.test_examples import ended

TRAINER = """
import sys, torch
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainerCallback, TrainingArguments
from carbontrack.integrations.huggingface import CarbonTrackCallback

class Interrupts(TrainerCallback):
    def on_step_end(self, args, state, control, **around):
        if state.global_step == self.at:
            raise KeyboardInterrupt

ids = torch.arange(8)
interrupts = Interrupts()
trainer = Trainer(
    model=LlamaForCausalLM(LlamaConfig(vocab_size=8, hidden_size=8, intermediate_size=8,
                                       num_hidden_layers=1, num_attention_heads=1)),
    args=TrainingArguments(output_dir=sys.argv[1], run_name="fit", max_steps=3, logging_steps=1,
                           save_strategy="no", report_to="none", use_cpu=True, disable_tqdm=True),
    train_dataset=[{"input_ids": ids, "labels": ids}] * 32,
    callbacks=[CarbonTrackCallback(meter="sim:a100x2"), interrupts],
)
for interrupts.at in (2, 0):
    try:
        trainer.train()
    except KeyboardInterrupt:
        pass
"""

LOOP = """
from accelerate import Accelerator
from carbontrack.integrations.accelerate import CarbonTrackTracker

def train(steps, accelerator=None):
    accelerator = accelerator or Accelerator(
        cpu=True, log_with=[CarbonTrackTracker(name="fit", meter="sim:a100x2") for _ in "ab"]
    )
    accelerator.init_trackers("x", config={"lr": 1e-3})
    try:
        for step in range(1, 4):
            accelerator.log({"loss": 1.0}, step=step)
            if step == steps:
                raise KeyboardInterrupt
        accelerator.end_training()
    except KeyboardInterrupt:
        return accelerator

train(1)
train(0, train(2))
"""


@pytest.mark.parametrize(
    ("script", "steps", "doubled"), [(TRAINER, [2, 3], 0), (LOOP, [1, 2, 3], 2)]
)
def test_the_next_training_is_a_run_of_its_own(
    script: str, steps: list[int], doubled: int, wrapper: Wrapper
) -> None:
    done = wrapper.python("-c", script, str(wrapper.folder / "out"))
    assert done.returncode == 0, done.stderr
    said = warnings_in(done.stderr)
    assert ["one is enough" in line for line in said] == [True] * doubled, said
    runs = [ended(wrapper, run["id"]) for run in wrapper.json("runs")["runs"]]
    *before, last = steps
    assert sorted((run["steps"], run["name"], run["status"]) for run in runs) == [
        *((one, "fit", "failed") for one in before),
        (last, "fit", "completed"),
    ]
