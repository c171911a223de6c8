"""Our Transformer as EleutherAI's lm-eval asks it: log-likelihoods and continuations.

A text gets the ids of the training, BOS first, as the exported tokenizer gives them, so that
lm-eval's own `hf` model on the export answers alike.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.models.utils import (
    handle_stop_sequences,
    normalize_gen_kwargs,
    postprocess_generated_text,
)
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from llama_train.generate import sample
from llama_train.metrics import progress_bar
from llama_train.model import Transformer
from llama_train.tokenizer import Tokenizer

# ((context, answer) as text or None, tokens of the context, tokens of the answer)
Encoded = tuple[tuple[str, str] | None, list[int], list[int]]
# Log-likelihood in nats, and whether every token of the answer is the likeliest one.
Likelihood = tuple[float, bool]

_BATCH_TOKENS = 4096
_ROUND = 64  # tokens of each answer, before those that are complete are left
_MOST_NEW_TOKENS = 256  # of an answer whose task gives no limit: lm-eval's own


class Llama(TemplateLM):  # type: ignore[misc]
    """`cut` counts the requests that lost their beginning, as they are longer than the context."""

    def __init__(self, model: Transformer, pieces: Tokenizer) -> None:
        super().__init__()
        self._model = model.eval()
        self._pieces = pieces
        self._device = model.output.weight.device
        self.cut = 0

    @property
    def max_length(self) -> int:
        return self._model.shape.context

    @property
    def eot_token_id(self) -> int:
        return self._pieces.eos

    @property
    def prefix_token_id(self) -> int:
        return self._pieces.bos

    def tok_encode(
        self, string: str, add_special_tokens: bool | None = None, **_: Any
    ) -> list[int]:
        tokens = self._pieces.encode(string)
        return tokens if add_special_tokens is False else [self._pieces.bos, *tokens]

    def loglikelihood(
        self, requests: Sequence[Instance], disable_tqdm: bool = True
    ) -> list[Likelihood]:
        return super().loglikelihood(requests, disable_tqdm=True)  # type: ignore[no-any-return]

    @torch.inference_mode()
    def _loglikelihood_tokens(
        self, requests: Sequence[Encoded], disable_tqdm: bool = False, **_: Any
    ) -> list[Likelihood]:
        """What does not fit is cut on the left, as lm-eval cuts it: of an answer that is longer
        than the context, its last tokens count. What is the same for several answers, because they
        differ in their last token only, is computed once.
        """
        asked: dict[tuple[int, ...], list[tuple[int, list[int]]]] = {}
        for number, (_text, context, answer) in enumerate(requests):
            whole = context + answer
            window = whole[-(self.max_length + 1) :]
            self.cut += len(window) < len(whole)
            predicted = answer[-(len(window) - 1) :] if len(window) > 1 else []
            if predicted:
                asked.setdefault(tuple(window[:-1]), []).append((number, predicted))
        results = [(0.0, True)] * len(requests)  # of an answer without tokens
        with progress_bar("evaluate", total=len(asked), unit="texts") as advance:
            for batch in _batches(sorted(asked, key=len, reverse=True)):
                for tokens, logits in zip(batch, self._logits(batch), strict=True):
                    for number, predicted in asked[tokens]:
                        places = logits[len(tokens) - len(predicted) : len(tokens)]
                        results[number] = _likelihood(places, predicted)
                    advance()
        return results

    def _logits(self, batch: Sequence[tuple[int, ...]]) -> torch.Tensor:
        """(B, T, V), padded on the right, which no token before sees."""
        longest = len(batch[0])
        rows = [[*tokens, *[self.eot_token_id] * (longest - len(tokens))] for tokens in batch]
        return self._model(torch.tensor(rows, device=self._device))  # type: ignore[no-any-return]

    def loglikelihood_rolling(
        self, requests: Sequence[Instance], disable_tqdm: bool = False
    ) -> list[float]:
        """Of whole texts: each token once, in windows as long as the context."""
        sums = []
        for (text,) in (request.args for request in requests):
            windows = get_rolling_token_windows(
                token_list=self.tok_encode(text),
                prefix_token=self.prefix_token_id,
                max_seq_len=self.max_length,
                context_len=1,
            )
            parts = [(None, *make_disjoint_window(window)) for window in windows]
            sums.append(sum(nats for nats, _ in self._loglikelihood_tokens(parts)))
        return sums

    def generate_until(self, requests: Sequence[Instance], disable_tqdm: bool = False) -> list[str]:
        """Continuations up to a stop text. Answers have at most half of the context, and the
        beginning of a longer prompt is cut.
        """
        alike: dict[str, list[int]] = {}
        for number, request in enumerate(requests):
            alike.setdefault(json.dumps(request.args[1], sort_keys=True), []).append(number)
        texts = [""] * len(requests)
        for settings, numbers in alike.items():
            prompts = [requests[number].args[0] for number in numbers]
            answers = self._continue(prompts, json.loads(settings))
            for number, text in zip(numbers, answers, strict=True):
                texts[number] = text
        return texts

    def _continue(self, prompts: Sequence[str], settings: dict[str, Any]) -> list[str]:
        wanted = normalize_gen_kwargs(settings, _MOST_NEW_TOKENS)
        stops = handle_stop_sequences(wanted.get("until"), eos=None)
        most = min(wanted["max_gen_toks"], max(1, self.max_length // 2))
        whole = [self.tok_encode(prompt) for prompt in prompts]
        starts = [tokens[-(self.max_length - most) :] for tokens in whole]
        self.cut += sum(len(a) < len(b) for a, b in zip(starts, whole, strict=True))
        texts, going = [list(start) for start in starts], list(range(len(prompts)))
        for at in range(0, most, _ROUND):  # who has come to a stop is not continued
            parts = sample(
                self._model,
                [texts[number] for number in going],
                count=min(_ROUND, most - at),
                temperature=wanted.get("temperature", 0.0) if wanted.get("do_sample") else 0.0,
                top_p=wanted.get("top_p", 1.0),
                keys=[f"{number}/{at}" for number in going],
                stop=self.eot_token_id,
            )
            ended = set()
            for number, tokens in zip(going, parts, strict=True):
                texts[number] += [token for token in tokens if token != self.eot_token_id]
                text = self._after(starts[number], texts[number])
                if self.eot_token_id in tokens or any(stop in text for stop in stops):
                    ended.add(number)
            going = [number for number in going if number not in ended]
        answers = (self._after(*pair) for pair in zip(starts, texts, strict=True))
        return [postprocess_generated_text(answer, stops, None) for answer in answers]

    def _after(self, start: Sequence[int], tokens: Sequence[int]) -> str:
        """The text after the start, with its first space, which it would lose alone."""
        return self._pieces.decode(tokens)[len(self._pieces.decode(start)) :]


def _batches(texts: Sequence[tuple[int, ...]]) -> Iterator[Sequence[tuple[int, ...]]]:
    """In order, the longest first, of at most `_BATCH_TOKENS` with the padding."""
    first = 0
    while first < len(texts):
        count = max(1, _BATCH_TOKENS // len(texts[first]))
        yield texts[first : first + count]
        first += count


def _likelihood(logits: torch.Tensor, answer: Sequence[int]) -> Likelihood:
    """Of an answer (T) by the logits (T, V) at its places."""
    tokens = torch.tensor(answer, device=logits.device)
    nats = logits.log_softmax(-1).gather(-1, tokens[:, None]).sum()
    return float(nats), bool((logits.argmax(-1) == tokens).all())
