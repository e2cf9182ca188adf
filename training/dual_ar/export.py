"""Weights of a run → a checkpoint in the published layout, as `saywell convert` takes it.

    python -m training.dual_ar.export --run RUN --out CHECKPOINT

A part that is not trained yet is written as it began, so the way can be tried before the training is over.
"""

from __future__ import annotations

import argparse
import base64
import json
from dataclasses import asdict
from pathlib import Path

import tiktoken
import torch
from torch import Tensor

from saywell.models.dual_ar.codec_nets import Book, Codec
from saywell.models.dual_ar.config import CODEC_CONFIG_FILE, CONFIG_FILE
from saywell.models.dual_ar.layout import codec_tensors, model_tensors, published_codec_tensors
from saywell.models.dual_ar.tokenizer import IM_END, PATTERN, RANKS_FILE, SPECIALS_FILE, Tokenizer
from saywell.models.wren.phones import SYMBOLS
from training.dual_ar.books import CONSTANT, ENTRIES, RADIUS, WIDTH, Books
from training.dual_ar.decoder import Decoder
from training.dual_ar.encoder import NAMED, STEADY_AT, Encoder
from training.dual_ar.nets import Training
from training.dual_ar.sizes import BEGIN, BYTES, CODEC, CONFIG, SPECIALS, config

MODEL_FILE, CODEC_FILE = "model.pth", "codec.pth"
PHONES_FILE = "phones.txt"
"""Not of the layout: the two symbols each semantic code stands for, by which speech can be judged unheard."""
SURE = 2.0
"""By so much logits of the residual books are lifted: drawn as it was learned, a block's spectrum has little to do with
those beside it. Lifted by 4, words are a little clearer still, but two sentences of a hundred do not end."""


def transformers(books: Books, run: Path, averaged: bool = True) -> dict[str, Tensor]:
    """Both transformers, bf16; the fast one is surer of itself than it was when it learned (`SURE`)."""
    model = Training(torch.from_numpy(books.pairs))
    if (run / "ar.pt").exists():
        saved = torch.load(run / "ar.pt", weights_only=True)
        model.load_state_dict(saved["average" if averaged else "model"])
    state = model.published()
    state["fast_output.weight"] *= SURE
    return {name: state[name].bfloat16() for name in model_tensors(config())}


def codec(books: Books, run: Path) -> dict[str, Tensor]:
    """Encoder, quantiser and decoder with weight norm, as published, fp16."""
    net, decoder = Codec(CODEC), Decoder()
    encoder = Encoder(books)
    for name, part in (("decoder", decoder), ("encoder", encoder)):
        if (run / f"{name}.pt").exists():
            part.load_state_dict(torch.load(run / f"{name}.pt", weights_only=True)["model"])
    net.decoder = decoder.decoder
    encoder.fill(net.encoder)
    net.quantizer.post_module, net.quantizer.upsample = decoder.post_module, decoder.upsample
    net.quantizer.pre_module, net.quantizer.downsample = encoder.pre_module, encoder.downsample
    _fill(net.quantizer.semantic_quantizer.quantizers[0], books, 0)
    for book, quantizer in enumerate(net.quantizer.quantizer.quantizers, 1):
        _fill(quantizer, books, book)
    state = net.state_dict()
    return weight_normed({name: state[name].float() for name in codec_tensors(CODEC)})


@torch.no_grad()
def _fill(into: Book, books: Books, book: int) -> None:
    """An entry is its vector and RADIUS; so are latents as they are compared, phones where the encoder names them."""
    basis, entries = torch.from_numpy(books.bases[book]), torch.from_numpy(books.entries[book])
    wide, heard = torch.cat([basis, torch.zeros(len(basis), 1)], 1), torch.zeros(len(basis), WIDTH)
    if book == 0:
        heard[NAMED, : WIDTH - 1] = torch.eye(WIDTH - 1)
    else:
        heard.copy_(wide)
        heard[NAMED], heard[STEADY_AT] = 0, 0
    into.in_proj.weight.copy_(heard.T[..., None])
    into.in_proj.bias.zero_()[-1] = RADIUS
    into.out_proj.weight.copy_(wide[..., None])
    into.out_proj.bias.copy_(torch.from_numpy(books.centres[book]))
    into.out_proj.bias[-1] = 0 if book else CONSTANT
    into.codebook.weight.copy_(torch.cat([entries, torch.full((len(entries), 1), RADIUS)], 1))


def weight_normed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Magnitude and direction where the published file keeps both."""
    published = {}
    for name, shape in published_codec_tensors(CODEC).items():
        if name in state:
            published[name] = state[name]
        elif name.endswith(("original0", "_g")):
            weight = state[_folded(name)]
            published[name] = torch.linalg.vector_norm(weight.flatten(1), dim=1).reshape(shape)
        else:
            weight = state[_folded(name)]
            # A filter of zeros has no direction: any, times a magnitude of zero.
            nothing = torch.linalg.vector_norm(weight.flatten(1), dim=1) == 0
            published[name] = torch.where(nothing.reshape(-1, *(1,) * (weight.ndim - 1)), 1.0, weight)
    return {name: each.half() for name, each in published.items()}


def _folded(name: str) -> str:
    return name.partition("parametrizations.")[0] + "weight" if "parametrizations" in name else name[: -len("_g")]


def tokenizer() -> Tokenizer:
    """The one the files describe."""
    ranks = {bytes([each]): each for each in range(BYTES)}
    bpe = tiktoken.Encoding("dual_ar", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens=SPECIALS)
    return Tokenizer(bpe, SPECIALS, BEGIN, BEGIN + ENTRIES - 1, SPECIALS[IM_END])


def export(run: Path, out: Path, averaged: bool = True) -> Path:
    """Write the checkpoint; its directory."""
    torch.manual_seed(0)  # what is switched off is random inside: the same run gives the same file
    out.mkdir(parents=True, exist_ok=True)
    books = Books.load(run / "books.npz")
    torch.save(transformers(books, run, averaged), out / MODEL_FILE)
    torch.save(codec(books, run), out / CODEC_FILE)
    (out / CONFIG_FILE).write_text(json.dumps(CONFIG, indent=1) + "\n", encoding="utf-8")
    (out / CODEC_CONFIG_FILE).write_text(json.dumps(asdict(CODEC), indent=1) + "\n", encoding="utf-8")
    ranks = (f"{base64.b64encode(bytes([each])).decode()} {each}\n" for each in range(BYTES))
    (out / RANKS_FILE).write_text("".join(ranks), encoding="ascii")
    (out / SPECIALS_FILE).write_text(json.dumps(SPECIALS, indent=0) + "\n", encoding="utf-8")
    named = (" ".join(SYMBOLS[number] for number in pair) for pair in books.pairs.tolist())
    (out / PHONES_FILE).write_text("\n".join(named) + "\n", encoding="ascii")
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    print(export(asked.run, asked.out))


if __name__ == "__main__":
    main()
