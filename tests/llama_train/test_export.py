"""What is exported beside the weights: a tokenizer that gives the ids of the training."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llama_train import weights
from llama_train.chat import conversation, prompt
from llama_train.config import ModelShape
from llama_train.export import export
from llama_train.tokenizer import Tokenizer

from .test_chat import turns
from .test_model import initialised

transformers = pytest.importorskip("transformers", reason="exports are read by transformers")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:transformers.*")

SHAPE = ModelShape(dim=32, n_layers=1, n_heads=2, n_kv_heads=2, vocab_size=512, context=32)


@pytest.fixture(scope="module")
def pieces(pydoc_data: Path) -> Tokenizer:
    return Tokenizer(pydoc_data / "tokenizer.model")


@pytest.fixture(scope="module")
def folder(pieces: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("export") / "model"
    export(initialised(SHAPE), out, pieces)
    return out


@pytest.fixture(scope="module")
def theirs(folder: Path) -> Any:
    return transformers.AutoTokenizer.from_pretrained(folder)


def test_every_document_has_the_ids_of_the_training(pieces: Tokenizer, theirs: Any) -> None:
    from llama_train.prepare import pydoc_documents

    for text in pydoc_documents():
        assert theirs(text)["input_ids"] == [pieces.bos, *pieces.encode(text)]


@pytest.mark.parametrize(
    "text", ["", " ", "  two spaces", "a\n\n  b", "é 漢 🙂 ﬁ②", "▁", "12,345", "\ttab ", "<", "<s"]
)
def test_odd_texts_have_the_ids_of_the_training(pieces: Tokenizer, theirs: Any, text: str) -> None:
    assert theirs(text)["input_ids"] == [pieces.bos, *pieces.encode(text)]
    assert theirs.decode(pieces.encode(text)) == pieces.decode(pieces.encode(text))


@settings(max_examples=200)
@given(text=st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=60))
def test_any_text_has_the_ids_of_the_training(pieces: Tokenizer, theirs: Any, text: str) -> None:
    assert theirs(text)["input_ids"] == [pieces.bos, *pieces.encode(text)]


@pytest.mark.parametrize("system", ["", "Be brief. "])
def test_their_chat_template_is_our_training_text(
    pieces: Tokenizer, theirs: Any, system: str
) -> None:
    messages = turns((" Hi ", "Ho "), ("And?\n", "Bye"), system=system)
    ours = [token for token, _ in conversation(messages, pieces)]
    assert theirs.apply_chat_template(messages)["input_ids"] == ours
    asked = theirs.apply_chat_template(messages[:-3] if system else messages[:1])["input_ids"]
    question = prompt(f"<<SYS>>\n{system}\n<</SYS>>\n\n Hi " if system else "Hi")
    assert asked == [pieces.bos, *pieces.encode(question)]
    with pytest.raises(Exception, match="must alternate"):
        theirs.apply_chat_template([*messages, messages[-1]])


def test_bos_and_eos_are_the_tokenizers(pieces: Tokenizer, folder: Path, theirs: Any) -> None:
    assert (theirs.bos_token_id, theirs.eos_token_id) == (pieces.bos, pieces.eos)
    for name in ("config.json", "generation_config.json"):
        config = json.loads((folder / name).read_text())
        assert (config["bos_token_id"], config["eos_token_id"]) == (pieces.bos, pieces.eos)
    model = transformers.LlamaForCausalLM.from_pretrained(folder)
    assert model.generation_config.eos_token_id == pieces.eos


def test_the_tokenizer_is_read_without_protobuf(folder: Path) -> None:
    program = (
        "import sys; sys.modules['google.protobuf'] = None; from transformers import AutoTokenizer;"
        "print(AutoTokenizer.from_pretrained(sys.argv[1])('a')['input_ids'][0])"
    )
    words = [sys.executable, "-W", "ignore", "-c", program, folder]
    assert subprocess.check_output(words, text=True).strip() == "1"


def test_bfloat16_is_half_as_large_and_reads_back(tiny: ModelShape, tmp_path: Path) -> None:
    model = initialised(tiny)
    for dtype in (torch.float32, torch.bfloat16):
        export(model, tmp_path / str(dtype), None, dtype=dtype)
    sizes = [
        (tmp_path / str(dtype) / "model.safetensors").stat().st_size
        for dtype in (torch.float32, torch.bfloat16)
    ]
    assert sizes[1] < 0.55 * sizes[0]
    half = weights.load_pretrained(tmp_path / "torch.bfloat16").state_dict()
    for name, weight in model.state_dict().items():
        assert torch.equal(half[name], weight.bfloat16().float())
    loaded = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "torch.bfloat16")
    assert loaded.dtype == torch.bfloat16
