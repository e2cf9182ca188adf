"""Published names and shapes of T3's tensors, and the configuration that a file's shapes stand for."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from saywell.errors import BadCheckpoint
from saywell.graphs.numerics import Shape, Shapes
from saywell.models.chatterbox.t3.config import ENGLISH, HEAD_DIM, TURBO, Kind, T3Config

LLAMA_VOCAB = 8
"""Rows of a table of the Llama that nothing uses."""
_ROOT = {"llama": "tfmr.layers", "gpt2": "tfmr.h"}
_FFN = {"llama": "mlp.gate_proj.weight", "gpt2": "mlp.c_proj.weight"}


def published(config: T3Config) -> Shapes:
    """All tensors of a published file."""
    return {**tables(config), **conditioning(config), **backbone(config), **dict(_unused(config))}


def tables(config: T3Config) -> Shapes:
    """Embeddings of text, speech and positions."""
    c = config
    shapes: Shapes = {"text_emb.weight": (c.text_vocab, c.hidden), "speech_emb.weight": (c.speech_vocab, c.hidden)}
    if c.kind == "gpt2":
        return {**shapes, "tfmr.wpe.weight": (c.positions, c.hidden)}
    shapes["text_pos_emb.emb.weight"] = (c.text_positions, c.hidden)
    shapes["speech_pos_emb.emb.weight"] = (c.speech_positions, c.hidden)
    return shapes


def conditioning(config: T3Config) -> Shapes:
    """The encoder of a voice."""
    at, h = "cond_enc.", config.hidden
    shapes: Shapes = {f"{at}spkr_enc.weight": (h, config.speaker), f"{at}spkr_enc.bias": (h,)}
    if config.kind == "gpt2":
        return shapes
    shapes[f"{at}emotion_adv_fc.weight"] = (h, 1)
    shapes[f"{at}perceiver.pre_attention_query"] = (1, config.queries, h)
    shapes |= dict(_biased(f"{at}perceiver.attn.norm", (h,)))
    for name in ("to_q", "to_k", "to_v", "proj_out"):
        shapes |= dict(_biased(f"{at}perceiver.attn.{name}", (h, h)))
    return shapes


def backbone(config: T3Config) -> Shapes:
    """The transformer and its head."""
    h, llama = config.hidden, config.kind == "llama"
    shapes: Shapes = {"speech_head.weight": (config.speech_vocab, h)}
    if not llama:
        shapes["speech_head.bias"] = (config.speech_vocab,)
    shapes |= {"tfmr.norm.weight": (h,)} if llama else dict(_biased("tfmr.ln_f", (h,)))
    layer = _llama_layer if llama else _gpt2_layer
    for number in range(config.layers):
        shapes |= {f"{_ROOT[config.kind]}.{number}.{name}": shape for name, shape in layer(h, config.ffn)}
    return shapes


def _llama_layer(hidden: int, ffn: int) -> Iterator[tuple[str, Shape]]:
    for name in "qkvo":
        yield f"self_attn.{name}_proj.weight", (hidden, hidden)
    yield "mlp.gate_proj.weight", (ffn, hidden)
    yield "mlp.up_proj.weight", (ffn, hidden)
    yield "mlp.down_proj.weight", (hidden, ffn)
    yield "input_layernorm.weight", (hidden,)
    yield "post_attention_layernorm.weight", (hidden,)


def _gpt2_layer(hidden: int, ffn: int) -> Iterator[tuple[str, Shape]]:
    """Matrices are stored as [inputs, outputs]."""
    products = {
        "attn.c_attn": (hidden, 3 * hidden),
        "attn.c_proj": (hidden, hidden),
        "mlp.c_fc": (hidden, ffn),
        "mlp.c_proj": (ffn, hidden),
    }
    for name, shape in products.items():
        yield f"{name}.weight", shape
        yield f"{name}.bias", shape[1:]
    for name in ("ln_1", "ln_2"):
        yield from _biased(name, (hidden,))


def _biased(name: str, shape: Shape) -> Iterator[tuple[str, Shape]]:
    yield f"{name}.weight", shape
    yield f"{name}.bias", shape[:1]


def _unused(config: T3Config) -> Iterator[tuple[str, Shape]]:
    """Published, and read by nobody. A file may lack them."""
    yield "text_head.weight", (config.text_vocab, config.hidden)
    if config.kind == "llama":
        yield "tfmr.embed_tokens.weight", (LLAMA_VOCAB, config.hidden)
    else:
        yield "tfmr.wte.weight", (config.text_vocab, config.hidden)


def recognised(shapes: Mapping[str, Shape], name: str = "the T3 file") -> T3Config:
    """The configuration that fits the tensors of a published file. Raises BadCheckpoint naming what does not fit.

    `name`: of the file.
    """
    kind: Kind = "llama" if any(each.startswith("tfmr.layers.") for each in shapes) else "gpt2"
    config = _derived(shapes, kind, name)
    unused = dict(_unused(config))
    needed = {each: shape for each, shape in published(config).items() if each not in unused or each in shapes}
    wrong = sorted(each for each in needed.keys() | shapes.keys() if needed.get(each) != shapes.get(each))
    if wrong:
        raise BadCheckpoint(f"{name} is not a T3 of Chatterbox: {', '.join(wrong[:8])}")
    return config


def _derived(shapes: Mapping[str, Shape], kind: Kind, name: str) -> T3Config:
    """Sizes from the tensors that show them. Raises BadCheckpoint."""

    def size(tensor: str, axis: int = 0) -> int:
        shape = shapes.get(tensor, ())
        if len(shape) <= axis:
            raise BadCheckpoint(f"{name} is not a T3 of Chatterbox: {tensor} is missing or has another shape")
        return shape[axis]

    root, llama = _ROOT[kind], kind == "llama"
    numbers = {int(found[1]) for each in shapes if (found := re.match(rf"{re.escape(root)}\.(\d+)\.", each))}
    hidden = size("speech_emb.weight", 1)
    query = "cond_enc.perceiver.pre_attention_query"
    config = T3Config(
        kind=kind,
        layers=max(numbers, default=-1) + 1,
        hidden=hidden,
        ffn=size(f"{root}.0.{_FFN[kind]}"),
        text_vocab=size("text_emb.weight"),
        speech_vocab=size("speech_emb.weight"),
        text_positions=size("text_pos_emb.emb.weight") if llama else 0,
        speech_positions=size("speech_pos_emb.emb.weight") if llama else 0,
        positions=0 if llama else size("tfmr.wpe.weight"),
        queries=size(query, 1) if llama else 0,
        speaker=size("cond_enc.spkr_enc.weight", 1),
        prompt_tokens=(ENGLISH if llama else TURBO).prompt_tokens,
    )
    if hidden % HEAD_DIM or config.speech_vocab <= config.stop_speech or len(numbers) != config.layers:
        raise BadCheckpoint(f"{name} is not a T3 of Chatterbox: speech_emb.weight or {root} has an unknown shape")
    return config
