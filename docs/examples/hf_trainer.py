"""Hugging Face's Trainer, with one line for carbontrack: python hf_trainer.py OUT

Also under `carbontrack run -- ...`, `torchrun --nproc-per-node 2 ...` and `accelerate launch ...`.
"""

import sys

import torch
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments

from carbontrack.integrations.huggingface import CarbonTrackCallback


def batch_of(seed: int) -> dict[str, torch.Tensor]:
    ids = torch.randint(0, 64, (32,), generator=torch.Generator().manual_seed(seed))
    return {"input_ids": ids, "labels": ids, "attention_mask": torch.ones_like(ids)}


model = LlamaForCausalLM(
    LlamaConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
    )
)
trainer = Trainer(
    model=model,
    args=TrainingArguments(
        output_dir=sys.argv[1],
        run_name="tiny-llama",
        max_steps=4,
        per_device_train_batch_size=2,
        logging_steps=1,
        eval_strategy="steps",
        eval_steps=2,
        save_steps=4,
        include_num_input_tokens_seen="non_padding",  # or no tokens are counted
        report_to="none",
        use_cpu=not torch.cuda.is_available(),
        disable_tqdm=True,
    ),
    train_dataset=[batch_of(i) for i in range(32)],
    eval_dataset=[batch_of(i) for i in range(100, 104)],
    callbacks=[
        CarbonTrackCallback(
            project="examples",
            model_card={"training_type": "pre-training", "geographical_location": "Paris"},
        )
    ],
)
trainer.train()
