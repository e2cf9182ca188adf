"""Embeddings of T3, mapped from disk, and the rows that a voice is to it, in NumPy."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import numpy.typing as npt

from saywell.errors import TooLarge
from saywell.graphs.numerics import Floats
from saywell.graphs.tensors import TensorFile
from saywell.models.chatterbox.t3 import layout
from saywell.models.chatterbox.t3.config import PERCEIVER_HEADS, T3Config
from saywell.models.chatterbox.t3.files import TABLES_FILE

Ids = npt.NDArray[np.integer]
_LN_EPS = np.float32(1e-5)


class Tables:
    """Inputs of the transformer. Only the rows in use are read from disk."""

    def __init__(self, path: Path, config: T3Config) -> None:
        """Raises BadCheckpoint."""
        file = TensorFile(path / TABLES_FILE)
        file.check({**layout.tables(config), **layout.conditioning(config)})
        self.config, self._file = config, file
        self._text, self._speech = file["text_emb.weight"], file["speech_emb.weight"]
        if config.kind == "llama":
            self._text_at, self._speech_at = file["text_pos_emb.emb.weight"], file["speech_pos_emb.emb.weight"]
        else:
            self._at = file["tfmr.wpe.weight"]

    def voice(self, speaker: Floats, prompt: Ids, exaggeration: float) -> Floats:
        """Speaker embedding, prompt tokens [P] (the first `prompt_tokens` are used) → rows [R, hidden]."""
        w, c = self._file, self.config
        prompt = np.asarray(prompt, np.int64)[: c.prompt_tokens]
        rows = [(w["cond_enc.spkr_enc.weight"] @ speaker.reshape(-1) + w["cond_enc.spkr_enc.bias"])[None]]
        spoken = self._speech[prompt]
        if c.kind == "gpt2":
            return self._placed(np.concatenate([*rows, spoken]), 0)
        if len(prompt):
            rows.append(self._perceived(spoken + self._speech_at[: len(prompt)]))
        rows.append(w["cond_enc.emotion_adv_fc.weight"].T * np.float32(exaggeration))
        return np.concatenate(rows)

    def prompt(self, text: Ids, start: int, *, blank: bool = False) -> Floats:
        """What follows the `start` rows of a voice: text [T] as upstream's tokeniser gives it (Llama: with start and
        stop), and the start of speech. `blank`: without the text, for guidance. Raises TooLarge."""
        c, text = self.config, np.asarray(text, np.int64)
        begin = self._speech[c.start_speech][None]
        if c.kind == "gpt2":
            return self._placed(np.concatenate([self._text[text], begin]), start)
        if len(text) > c.text_positions:
            raise TooLarge(f"the text has {len(text)} tokens and the model takes {c.text_positions}", param="text")
        places = self._text_at[: len(text)]
        rows = places if blank else self._text[text] + places
        begin = begin + self._speech_at[0]
        return np.concatenate([rows, begin, begin])  # twice, as upstream

    def spoken(self, tokens: Ids, frames: Ids, places: Ids) -> Floats:
        """Speech tokens [N], the number of each in its speech (from 1), its position in its sequence → [N, hidden]."""
        rows = self._speech[tokens]
        return rows + (self._speech_at[frames] if self.config.kind == "llama" else self._at[places])

    def _placed(self, rows: Floats, start: int) -> Floats:
        """Raises TooLarge."""
        end = start + len(rows)
        if end > self.config.positions:
            raise TooLarge(f"voice and text take more than {self.config.positions} positions", param="text")
        return np.asarray(rows + self._at[start:end])

    def _perceived(self, rows: Floats) -> Floats:
        """The prompt [P, hidden] → rows of the perceiver: its queries attend to the prompt, then to each other."""
        query = self._file["cond_enc.perceiver.pre_attention_query"][0]
        query = self._attention(query, rows)
        return self._attention(query, query)

    def _attention(self, query: Floats, rows: Floats) -> Floats:
        at, size = "cond_enc.perceiver.attn.", self.config.hidden // PERCEIVER_HEADS
        q_in, kv_in = self._normed(query), self._normed(rows)
        q, k, v = (
            self._linear(x, f"{at}to_{name}").reshape(len(x), PERCEIVER_HEADS, size).transpose(1, 0, 2)
            for name, x in (("q", q_in), ("k", kv_in), ("v", kv_in))
        )
        scores = q @ k.transpose(0, 2, 1) / np.float32(math.sqrt(size))
        shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
        heads = (shares / shares.sum(axis=-1, keepdims=True)) @ v
        joined = heads.transpose(1, 0, 2).reshape(len(query), -1)
        return np.asarray(query + self._linear(joined, f"{at}proj_out"))

    def _normed(self, x: Floats) -> Floats:
        at = "cond_enc.perceiver.attn.norm."
        centred = x - x.mean(axis=-1, keepdims=True)
        scale = np.sqrt(np.square(centred).mean(axis=-1, keepdims=True) + _LN_EPS)
        return np.asarray(centred / scale * self._file[f"{at}weight"] + self._file[f"{at}bias"])

    def _linear(self, x: Floats, name: str) -> Floats:
        return np.asarray(x @ self._file[f"{name}.weight"].T + self._file[f"{name}.bias"])
