"""TRL's SFTTrainer, with one line for carbontrack: python trl_sft.py OUT"""

import sys

import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from trl import SFTConfig, SFTTrainer

from carbontrack.integrations.huggingface import CarbonTrackCallback

WORDS = ["<pad>", "</s>", "energy", "is", "power", "times", "time", "."]
tokenizer = PreTrainedTokenizerFast(
    tokenizer_object=Tokenizer(
        models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<pad>")
    ),
    pad_token="<pad>",
    eos_token="</s>",
)
tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
model = LlamaForCausalLM(
    LlamaConfig(
        vocab_size=len(WORDS),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        pad_token_id=0,
        eos_token_id=1,
    )
)
trainer = SFTTrainer(
    model=model,
    processing_class=tokenizer,
    train_dataset=Dataset.from_dict({"text": ["energy is power times time ."] * 16}),
    args=SFTConfig(
        output_dir=sys.argv[1],
        max_steps=3,
        per_device_train_batch_size=2,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        use_cpu=not torch.cuda.is_available(),
        bf16=False,
        gradient_checkpointing=False,
        disable_tqdm=True,
    ),
    callbacks=[CarbonTrackCallback(name="tiny-sft", project="examples")],
)
trainer.train()
