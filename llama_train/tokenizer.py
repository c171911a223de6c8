"""SentencePiece, as Llama 2 uses it: load any `.model`, or train one like it."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import sentencepiece

from llama_train.errors import TrainError

# In the config.json of a run and of an export: the tokenizer that the weights are of.
SHA256_KEY = "tokenizer_sha256"
# SentencePiece leaves out sentences that are longer than this many bytes.
_LONGEST_LINE = 4192


class Piece(NamedTuple):
    text: str
    score: float
    """Of two pieces that text could be merged into, the one with the higher score is taken."""
    is_normal: bool
    """Neither a control sign (BOS), nor the unknown, nor a single byte."""


class Tokenizer:
    """Text to pieces and back. Raises TrainError if the file is no SentencePiece model."""

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise TrainError(f"Tokenizer {path} does not exist.")
        blob = path.read_bytes()
        self._pieces: Any = sentencepiece.SentencePieceProcessor()
        try:
            self._pieces.LoadFromSerializedProto(blob)
        except RuntimeError as error:
            raise TrainError(f"{path} is not a SentencePiece model.") from error
        self.blob = blob
        self.sha256 = hashlib.sha256(blob).hexdigest()
        self.vocab_size: int = self._pieces.vocab_size()
        self.unk: int = self._pieces.unk_id()
        self.bos: int = self._pieces.bos_id()
        self.eos: int = self._pieces.eos_id()
        if self.bos < 0 or self.eos < 0:
            raise TrainError(f"{path} has no BOS or EOS piece, which mark where a document ends.")

    def encode(self, text: str) -> list[int]:
        """Without BOS and EOS."""
        return self._pieces.encode(text)  # type: ignore[no-any-return]

    def document(self, text: str) -> list[int]:
        """BOS text EOS."""
        return [self.bos, *self.encode(text), self.eos]

    def decode(self, tokens: Sequence[int]) -> str:
        """The text; of an id beyond the pieces, which a padded vocabulary has, none."""
        known = [token for token in tokens if token < self.vocab_size]
        return self._pieces.decode(known)  # type: ignore[no-any-return]

    def pieces(self) -> list[Piece]:
        sp = self._pieces
        return [
            Piece(
                sp.id_to_piece(number),
                sp.get_score(number),
                not (sp.is_control(number) or sp.is_unknown(number) or sp.is_byte(number)),
            )
            for number in range(self.vocab_size)
        ]

    @property
    def is_llamas_kind(self) -> bool:
        """BPE on the text as it is, after one space: Llama 2's own, and those trained here.

        SentencePiece does not say its algorithm; the scores of BPE are ranks, whole numbers.
        """
        ranked = all(piece.score == round(piece.score) for piece in self.pieces())
        return ranked and self._pieces.normalize("a  ﬁ② ") == "▁a▁▁ﬁ②▁"


def tokenizer_beside(folder: Path, vocab_size: int) -> Tokenizer:
    """The tokenizer of the weights in a folder. Raises TrainError if it is missing, has more pieces
    than the model, or is another than config.json names by its hash; those of older runs and other
    programs name none.
    """
    pieces, config = Tokenizer(folder / "tokenizer.model"), folder / "config.json"
    if config.is_file():
        try:
            content = json.loads(config.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise TrainError(f"{config} is not readable JSON.") from error
        named = content.get(SHA256_KEY) if isinstance(content, dict) else None
        if named not in (None, pieces.sha256):
            raise TrainError(
                f"{folder}: a checkpoint of another tokenizer: tokenizer.model is not the one that "
                "it was trained with.",
                hint="Put that one beside it: config.json has its SHA-256.",
            )
    if pieces.vocab_size > vocab_size:
        raise TrainError(
            f"{folder}: a checkpoint of another tokenizer: tokenizer.model has {pieces.vocab_size} "
            f"pieces, the model vocab_size {vocab_size}.",
            hint="Put the tokenizer that it was trained with beside it.",
        )
    return pieces


def train_tokenizer(texts: Iterable[str], path: Path, vocab_size: int) -> Tokenizer:
    """Train BPE with Llama 2's settings and write it to `path`.

    Identity normalisation, digits split, bytes for what is unknown; unk 0, BOS 1, EOS 2.
    """
    # Written by way of memory: SentencePiece would note the path in the model, whose hash would
    # then depend on where it is.
    model = io.BytesIO()
    lines = _Lines(texts)
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines),
            model_writer=model,
            model_type="bpe",
            vocab_size=vocab_size,
            byte_fallback=True,
            split_digits=True,
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            allow_whitespace_only_pieces=True,
            character_coverage=0.99995,
            num_threads=1,
            minloglevel=2,
        )
    except RuntimeError as error:
        if lines.failure is not None:
            raise lines.failure from None
        reason = str(error).splitlines()[-1].split("] ")[-1]
        raise TrainError(
            f"No tokenizer of {vocab_size} pieces can be trained on this text ({reason}).",
            hint="Change --vocab-size (at least 259 are bytes and controls), or give more text.",
        ) from error
    path.write_bytes(model.getvalue())
    return Tokenizer(path)


class _Lines:
    """Text in lines that SentencePiece takes; it hides what reading them raises: `failure`."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._texts = texts
        self.failure: Exception | None = None

    def __iter__(self) -> Iterator[str]:
        try:
            for text in self._texts:
                for line in text.splitlines():
                    for start in range(0, len(line), _LONGEST_LINE // 4):
                        yield line[start : start + _LONGEST_LINE // 4]
        except Exception as error:
            self.failure = error
            raise
