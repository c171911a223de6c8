"""The losses of the chat stages beside those of TRL and TorchRL, on the same numbers."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import nn

from llama_train.advantage import estimate_advantages, policy_loss, value_loss
from llama_train.config import ModelShape
from llama_train.export import _hf_config
from llama_train.model import Transformer
from llama_train.reward import GRADES, MARGINS, ranking
from llama_train.weights import to_hf

from .test_model import initialised

PAD, END = 0, 2

# Both read the environment of their own accord and warn of what they do not find, or will change.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]


def ragged_pairs() -> list[tuple[list[int], list[int], int]]:
    """(chosen, rejected, grade): of other lengths each, and each grade once."""
    draw = torch.Generator().manual_seed(0)
    pairs = []
    for grade in range(len(GRADES)):
        sides = [
            [1, *torch.randint(3, 512, (length,), generator=draw).tolist(), END]
            for length in (5 + 3 * grade, 14 - 2 * grade)
        ]
        pairs.append((sides[0], sides[1], grade))
    return pairs


def test_the_margin_loss_is_trls_on_the_same_model(tiny: ModelShape, tmp_path: Path) -> None:
    trl = pytest.importorskip("trl", reason="its RewardTrainer is the oracle")
    transformers = pytest.importorskip("transformers")
    from datasets import Dataset
    from tokenizers import Tokenizer, models

    shape = dataclasses.replace(tiny, head="scalar")
    ours, pairs = initialised(shape), ragged_pairs()
    words = transformers.PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel({"<pad>": PAD, "</s>": END}, "<pad>")),
        pad_token="<pad>",
        eos_token="</s>",
    )
    trainer = trl.RewardTrainer(
        model=scalar_twin(ours),
        args=trl.RewardConfig(
            str(tmp_path), report_to="none", use_cpu=True, bf16=False, gradient_checkpointing=False
        ),
        processing_class=words,
        train_dataset=Dataset.from_list(
            [
                {"chosen_ids": a, "rejected_ids": b, "margin": MARGINS["large"][grade]}
                for a, b, grade in pairs
            ]
        ),
    )
    batch = trainer.data_collator([trainer.train_dataset[at] for at in range(len(pairs))])
    theirs = trainer.compute_loss(trainer.model, dict(batch))

    width = max(len(side) for a, b, _ in pairs for side in (a, b))
    rows = [[side + [END] * (width - len(side)) for side in (a, b)] for a, b, _ in pairs]
    ends = torch.tensor([[len(a) - 1, len(b) - 1] for a, b, _ in pairs])
    objective, _ = ranking("large")
    grades = torch.tensor([grade for _, _, grade in pairs])
    loss, count = objective(ours, (torch.tensor(rows), ends, grades))
    mean = loss / count
    assert mean.item() == pytest.approx(theirs.item(), abs=1e-6)

    mean.backward()
    theirs.backward()
    gradients = (ours.output.weight.grad, trainer.model.score.weight.grad)
    torch.testing.assert_close(*gradients, atol=1e-6, rtol=1e-4)


def scalar_twin(model: Transformer) -> nn.Module:
    """The same weights in Hugging Face's model that scores a sequence at its last token."""
    from transformers import LlamaConfig, LlamaForSequenceClassification

    config = LlamaConfig(**_hf_config(model.shape, torch.float32))
    config.num_labels, config.pad_token_id = 1, PAD
    twin = LlamaForSequenceClassification(config)
    named = to_hf(model.state_dict(), model.shape)
    named["score.weight"] = named.pop("lm_head.weight")
    twin.load_state_dict(named)
    return twin


def test_advantages_are_torchrls() -> None:
    functional = pytest.importorskip(
        "torchrl.objectives.value.functional", reason="its estimator is the oracle"
    )
    draw = torch.Generator().manual_seed(0)
    rewards, values = (torch.randn(5, 9, generator=draw) for _ in range(2))
    starts, ends = torch.tensor([0, 2, 4, 1, 3]), torch.tensor([8, 5, 4, 7, 8])
    places = torch.arange(9)
    mask = (places >= starts[:, None]) & (places <= ends[:, None])
    advantages, returns = estimate_advantages(rewards, values, mask, 0.9, 0.95)
    # Theirs ends an episode where it is done, and has the value of what comes next beside each.
    done = places == ends[:, None]
    following = torch.cat((values[:, 1:], torch.zeros(5, 1)), dim=1)
    theirs = functional.generalized_advantage_estimate(
        0.9,
        0.95,
        *(part[..., None] for part in (values, following, rewards, done)),
    )
    for our, their in zip((advantages, returns), theirs, strict=True):
        torch.testing.assert_close(our[mask], their[..., 0][mask], atol=1e-6, rtol=0)


def test_ppos_losses_and_divergence_are_torchrls() -> None:
    objectives = pytest.importorskip("torchrl.objectives", reason="its ClipPPOLoss is the oracle")
    from tensordict import TensorDict
    from tensordict.nn import ProbabilisticTensorDictModule as Drawn
    from tensordict.nn import ProbabilisticTensorDictSequential, TensorDictModule

    draw = torch.Generator().manual_seed(0)
    before, logits = (torch.randn(6, 7, 11, generator=draw) for _ in range(2))
    logits = (before + 0.3 * logits).requires_grad_()
    values = torch.randn(6, 7, generator=draw).requires_grad_()
    advantages, returns = (torch.randn(6, 7, generator=draw) for _ in range(2))
    tokens = torch.randint(0, 11, (6, 7, 1), generator=draw)
    old = before.log_softmax(-1).gather(-1, tokens)[..., 0]
    new = logits.log_softmax(-1).gather(-1, tokens)[..., 0]
    actor = ProbabilisticTensorDictSequential(
        TensorDictModule(nn.Identity(), in_keys=["new_logits"], out_keys=["logits"]),
        Drawn(
            in_keys=["logits"],
            out_keys=["action"],
            distribution_class=torch.distributions.Categorical,
            return_log_prob=True,
        ),
    )
    critic = TensorDictModule(nn.Identity(), in_keys=["new_values"], out_keys=["state_value"])
    loss = objectives.ClipPPOLoss(
        actor,
        critic,
        clip_epsilon=0.2,
        entropy_bonus=False,
        critic_coeff=0.5,  # ½ (V - R)²
        loss_critic_type="l2",
    )
    known = {
        "new_logits": logits,
        "new_values": values[..., None],
        "action": tokens[..., 0],
        actor.log_prob_keys[0]: old,
        "advantage": advantages[..., None],
        "value_target": returns[..., None],
    }
    theirs = loss(TensorDict(known, batch_size=(6, 7)))
    objective = policy_loss(new, old, advantages, 0.2).mean()
    critics = value_loss(values, returns).mean()
    assert objective.item() == pytest.approx(theirs["loss_objective"].item(), abs=1e-6)
    assert critics.item() == pytest.approx(theirs["loss_critic"].item(), abs=1e-6)
    # What PPO reports of the divergence: the mean of old - new over what the old policy drew.
    assert (old - new).mean().item() == pytest.approx(theirs["kl_approx"].item(), abs=1e-6)
    ours = torch.autograd.grad(objective + critics, (logits, values), retain_graph=True)
    total = theirs["loss_objective"] + theirs["loss_critic"]
    torch.testing.assert_close(ours, torch.autograd.grad(total, (logits, values)))
