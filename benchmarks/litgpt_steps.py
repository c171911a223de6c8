"""Training steps of litgpt's Llama, one for each line that comes in.

    litgpt_steps.py SHAPE COMPILED BFLOAT16

Run by the Python of litgpt's environment. SHAPE is JSON: dim, n_layers, n_heads, n_kv_heads,
ffn_dim, vocab_size, context, batch. For each line it makes a step on the next random tokens, the
same as benchmarks.training's, and answers with its seconds and loss; at the end of its input,
with its peak memory in KiB.
"""

import json
import sys
import time
from pathlib import Path

import torch
from litgpt import GPT, Config

shape = json.loads(sys.argv[1])
config = Config(
    name="llama",
    block_size=shape["context"],
    vocab_size=shape["vocab_size"],
    padded_vocab_size=shape["vocab_size"],
    n_layer=shape["n_layers"],
    n_head=shape["n_heads"],
    n_query_groups=shape["n_kv_heads"],
    n_embd=shape["dim"],
    intermediate_size=shape["ffn_dim"],
    rotary_percentage=1.0,
    parallel_residual=False,
    bias=False,
    norm_class_name="RMSNorm",
    norm_eps=1e-5,
    mlp_class_name="LLaMAMLP",
)
torch.manual_seed(0)
model = GPT(config)
for parameter in model.parameters():
    if parameter.ndim > 1:
        torch.nn.init.normal_(parameter, std=0.02)
if sys.argv[2] == "True":
    model.compile()
optimizer = torch.optim.AdamW(
    model.parameters(), lr=1e-3, betas=(0.9, 0.95), eps=1e-5, weight_decay=0.1, fused=True
)
generator = torch.Generator().manual_seed(0)
for _ in sys.stdin:
    size = (shape["batch"], shape["context"] + 1)
    tokens = torch.randint(shape["vocab_size"], size, generator=generator)
    began_s = time.perf_counter()
    with torch.autocast("cpu", torch.bfloat16, enabled=sys.argv[3] == "True"):
        logits = model(tokens[:, :-1]).flatten(0, 1)
    loss = torch.nn.functional.cross_entropy(logits.float(), tokens[:, 1:].flatten())
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    value = float(loss.detach())
    print(time.perf_counter() - began_s, value, flush=True)
print(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])
