"""Parity with Hugging Face's LlamaForCausalLM, and the ways of weights in and out."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from llama_train import export, weights
from llama_train.config import ModelShape, Train
from llama_train.errors import TrainError
from llama_train.generate import sample
from llama_train.model import Transformer
from llama_train.optim import adamw, clip_gradients, squared_norm

from .test_foreign_checkpoint import Payload
from .test_model import initialised, random_tokens

transformers = pytest.importorskip("transformers", reason="parity needs transformers")

# transformers reads the environment of its own accord and warns of what it does not find.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:transformers.*")


@pytest.fixture(params=[4, 2], ids=["all-heads", "gqa"])
def shape(request: pytest.FixtureRequest, tiny: ModelShape) -> ModelShape:
    return dataclasses.replace(tiny, n_kv_heads=request.param)


def twin(model: Transformer, folder: Path) -> Any:
    """The same weights in Hugging Face's model, by way of the exported files."""
    export.export(model, folder, None)
    return transformers.LlamaForCausalLM.from_pretrained(folder)


def test_logits_and_gradients_are_the_same(shape: ModelShape, tmp_path: Path) -> None:
    ours, tokens = initialised(shape), random_tokens(shape)
    theirs = twin(ours, tmp_path)
    logits = theirs(tokens).logits
    assert (ours(tokens) - logits).abs().max().item() <= 1e-4

    targets = tokens.roll(-1, 1)
    (ours(tokens, targets) / tokens.numel()).backward()
    torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten()).backward()
    gradients = {name: p.grad for name, p in theirs.named_parameters()}
    for name, gradient in weights.from_hf(gradients, shape).items():
        torch.testing.assert_close(ours.get_parameter(name).grad, gradient, rtol=1e-4, atol=1e-6)


def test_fifty_steps_agree(shape: ModelShape, tmp_path: Path) -> None:
    ours = initialised(shape)
    theirs = twin(ours, tmp_path)
    train = Train(steps=50, lr=3e-3)
    optimizers = [adamw(model, train) for model in (ours, theirs)]
    generator = torch.Generator().manual_seed(0)
    for _ in range(50):
        tokens = torch.randint(64, (4, 33), generator=generator)
        inputs, targets = tokens[:, :-1], tokens[:, 1:]
        logits = theirs(inputs).logits.flatten(0, 1)
        losses = [
            ours(inputs, targets) / targets.numel(),
            torch.nn.functional.cross_entropy(logits, targets.flatten()),
        ]
        for model, loss, optimizer in zip((ours, theirs), losses, optimizers, strict=True):
            loss.backward()
            norm = float(squared_norm(model.parameters()).sqrt())
            clip_gradients(model.parameters(), norm, 1.0)
            optimizer.step()
            optimizer.zero_grad()
        assert losses[0].item() == pytest.approx(losses[1].item(), abs=1e-3)


def test_the_layout_round_trips_bit_for_bit(shape: ModelShape, tmp_path: Path) -> None:
    model = initialised(shape)
    export.export(model, tmp_path, None)
    again = weights.load_pretrained(tmp_path)
    assert again.shape.architecture == shape.architecture
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, again.state_dict()[name])


def test_a_large_export_is_split_and_reads_back(
    tiny: ModelShape, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "SHARD_BYTES", 200_000)
    model, tokens = initialised(tiny), random_tokens(tiny)
    theirs = twin(model, tmp_path)
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    torch.testing.assert_close(theirs(tokens).logits, model(tokens), atol=1e-4, rtol=0)
    assert torch.equal(weights.load_pretrained(tmp_path)(tokens), model(tokens))


def test_greedy_generation_is_identical(shape: ModelShape, tmp_path: Path) -> None:
    model = initialised(shape)
    theirs = twin(model, tmp_path)
    prompt = [1, 17, 300, 42]
    whole = theirs.generate(
        torch.tensor([prompt]),
        max_new_tokens=20,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=0,
    )
    assert [*prompt, *sample(model, [prompt], count=20)[0]] == whole[0].tolist()


@pytest.mark.parametrize("files", [1, 2])
def test_metas_own_files_load(tiny: ModelShape, tmp_path: Path, files: int) -> None:
    model = initialised(tiny)
    for i in range(files):
        part = {
            name: weight if weight.ndim == 1 else weight.chunk(files, _cut(name))[i].clone()
            for name, weight in model.state_dict().items()
        }
        part["rope.freqs"] = torch.ones(8)
        torch.save(part, tmp_path / f"consolidated.{i:02d}.pth")
    params = {"dim": 64, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2, "norm_eps": 1e-5}
    (tmp_path / "params.json").write_text(json.dumps({**params, "vocab_size": -1}))
    loaded = weights.load_pretrained(tmp_path)
    assert loaded.shape.architecture == tiny.architecture
    tokens = random_tokens(tiny)
    assert torch.equal(loaded(tokens), model(tokens))


def _cut(name: str) -> int:
    """How fairscale's layers are cut: rows of the first matrices, columns of the second ones."""
    return 1 if name.endswith(("wo.weight", "w2.weight", "tok_embeddings.weight")) else 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "gpt2"}, "model_type is 'gpt2'"),
        ({"rope_scaling": {"rope_type": "llama3"}}, "rope_type is 'llama3'"),
        ({"rope_scaling": {"type": "linear", "factor": 4.0}}, "type is 'linear'"),
        (
            {"rope_parameters": {"rope_type": "default", "factor": 4.0}},
            r"factor \(4.0\) is not known",
        ),
        ({"rope_scaling": "linear"}, "not the configuration of a Llama"),
        ({"hidden_act": "gelu"}, "hidden_act is 'gelu'"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor is 0.5"),
        ({"attention_bias": True}, "attention_bias is True"),
        ({"quantization_config": {"bits": 4}}, "quantization_config .* is not known"),
        ({"sliding_window": 512}, r"sliding_window \(512\) is not known"),
        ({"head_dim": 32}, "head_dim 32 is not 16"),
        ({"vocab_size": 600}, "should be"),
        ({"num_hidden_layers": 3}, "is missing"),
        ({"num_hidden_layers": 1}, "not a weight of a Llama"),
        ({"num_key_value_heads": 1}, "should be"),
        ({"num_key_value_heads": 3}, "not a multiple of model.n_kv_heads 3"),
        ({"num_attention_heads": 0}, "model.n_heads is 0; it must be at least 1"),
        ({"intermediate_size": "wide"}, "not those of a Llama"),
        ({"rms_norm_eps": "small"}, "model.norm_eps is small; it must be a number"),
    ],
)
def test_a_folder_that_is_no_llama_2_is_refused(
    tiny: ModelShape, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    export.export(initialised(tiny), tmp_path, None)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, **change}))
    with pytest.raises(TrainError, match=message):
        weights.load_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"use_scaled_rope": True}, "use_scaled_rope is True"), ({"moe": {}}, "moe .* is not known")],
)
def test_a_meta_folder_of_another_model_is_refused(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    params = {"dim": 64, "n_layers": 2, "n_heads": 4, "norm_eps": 1e-5, **change}
    (tmp_path / "params.json").write_text(json.dumps(params))
    with pytest.raises(TrainError, match=message):
        weights.load_pretrained(tmp_path)


def test_tied_embeddings_load_untied(tiny: ModelShape, tmp_path: Path) -> None:
    config = transformers.LlamaConfig(
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=512,
        max_position_embeddings=32,
        tie_word_embeddings=True,
    )
    theirs = transformers.LlamaForCausalLM(config)
    theirs.save_pretrained(tmp_path)
    tokens = random_tokens(tiny)
    ours = weights.load_pretrained(tmp_path)
    torch.testing.assert_close(ours(tokens), theirs(tokens).logits, atol=1e-4, rtol=0)


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainError, match="neither a run"):
        weights.load_pretrained(tmp_path)


@pytest.mark.parametrize("content", ["[]", "{", '{"model_type": "llama"}'])
def test_a_config_that_says_too_little_is_refused(
    tiny: ModelShape, tmp_path: Path, content: str
) -> None:
    export.export(initialised(tiny), tmp_path, None)
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(TrainError, match=r"config\.json"):
        weights.load_pretrained(tmp_path)


def test_damaged_weights_are_refused_by_name(tiny: ModelShape, tmp_path: Path) -> None:
    export.export(initialised(tiny), tmp_path / "hf", None)
    file = tmp_path / "hf" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(TrainError, match=r"model\.safetensors cannot be read"):
        weights.load_pretrained(tmp_path / "hf")

    (tmp_path / "meta").mkdir()
    (tmp_path / "meta" / "params.json").write_text("{}")
    torch.save(initialised(tiny).state_dict(), tmp_path / "meta" / "consolidated.00.pth")
    with pytest.raises(TrainError, match=r"params\.json: dim of a Llama 1 or 2 is missing"):
        weights.load_pretrained(tmp_path / "meta")
    for foreign in (Payload(tmp_path / "ran"), [1]):
        torch.save(foreign, tmp_path / "meta" / "consolidated.00.pth")
        with pytest.raises(TrainError, match=r"consolidated\.00\.pth cannot be read"):
            weights.load_pretrained(tmp_path / "meta")
    assert not (tmp_path / "ran").exists()
    (tmp_path / "meta" / "consolidated.00.pth").write_bytes(b"PK")
    with pytest.raises(TrainError, match=r"consolidated\.00\.pth cannot be read"):
        weights.load_pretrained(tmp_path / "meta")


def test_only_the_files_of_the_index_count(
    tiny: ModelShape, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mistral's folders, for one, hold all weights again in `consolidated.safetensors`."""
    monkeypatch.setattr(export, "SHARD_BYTES", 100_000)
    export.export(initialised(tiny), tmp_path, None)
    save_file(
        {"layers.0.attention.wq.weight": torch.ones(2)}, tmp_path / "consolidated.safetensors"
    )
    assert weights.load_pretrained(tmp_path).shape.architecture == tiny.architecture


def test_nothing_is_exported_over_a_run_or_another_model(tiny: ModelShape, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(TrainError, match="is not empty"):
        export.export(initialised(tiny), tmp_path, None)
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]
