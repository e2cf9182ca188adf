"""The codec: against a second implementation, and what causality promises."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import random_checkpoint
from reference import naive
from reference.codec_nets import Book, CausalConv, CausalTransConv, Codec, WindowTransformer
from saywell.models.dual_ar.config import CodecConfig
from saywell.models.dual_ar.convert.checkpoint import read_codec


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_checkpoint.write(tmp_path_factory.mktemp("codec"))


@pytest.fixture(scope="module")
def codec(path: Path) -> Codec:
    sizes = CodecConfig.read(path)
    return Codec.load(sizes, read_codec(path / "codec.pth", sizes))


def some_codes(codec: Codec, frames: int, seed: int = 0) -> torch.Tensor:
    books = range(codec.config.num_codebooks)
    random = np.random.default_rng(seed)
    return torch.from_numpy(np.stack([random.integers(0, codec.config.book_size(book), frames) for book in books]))


def noise(samples: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(1).normal(0, 0.2, samples).astype(np.float32))


def test_decodes_what_the_second_implementation_decodes(path: Path, codec: Codec) -> None:
    codes = some_codes(codec, 11)  # more frames than the window
    state = naive.published(path / "codec.pth")
    np.testing.assert_allclose(codec.decode(codes), naive.decode(state, asdict(codec.config), codes.numpy()), atol=2e-5)


def test_encodes_what_the_second_implementation_encodes(path: Path, codec: Codec) -> None:
    audio = noise(11 * 2048 - 300)
    state = naive.published(path / "codec.pth")
    np.testing.assert_array_equal(codec.encode(audio), naive.encode(state, asdict(codec.config), audio.numpy()))


def test_audio_is_sane(codec: Codec) -> None:
    audio = codec.decode(some_codes(codec, 20))
    assert audio.shape == (20 * 2048,)
    assert 0.02 < float(audio.square().mean().sqrt()) < 0.7
    assert float(audio.abs().max()) <= 1.0


def test_decoding_is_causal(codec: Codec) -> None:
    codes = some_codes(codec, 16)
    whole = codec.decode(codes)
    changed = codes.clone()
    changed[:, 9:] = some_codes(codec, 7, seed=1)
    torch.testing.assert_close(codec.decode(changed)[: 9 * 2048], whole[: 9 * 2048], atol=5e-5, rtol=0)
    torch.testing.assert_close(codec.decode(codes[:, :9]), whole[: 9 * 2048], atol=5e-5, rtol=0)


def test_encoding_is_causal_and_pads_to_a_frame(codec: Codec) -> None:
    audio = noise(6 * 2048)
    whole = codec.encode(audio)
    assert whole.shape == (codec.config.num_codebooks, 6)
    torch.testing.assert_close(codec.encode(audio[: 4 * 2048]), whole[:, :4])
    assert codec.encode(audio[:2049]).shape[1] == 2
    padded = torch.cat([audio[:3000], torch.zeros(1096)])
    torch.testing.assert_close(codec.encode(audio[:3000]), codec.encode(padded))


def test_codes_lie_within_their_books(codec: Codec) -> None:
    codes = codec.encode(noise(40 * 2048))
    assert all(0 <= int(row.min()) <= int(row.max()) < codec.config.book_size(book) for book, row in enumerate(codes))
    assert len(codes[0].unique()) > 1


def test_indices_beyond_a_book_are_clamped(codec: Codec) -> None:
    codes = some_codes(codec, 3)
    beyond, last = codes.clone(), codes.clone()
    beyond[1:] = 60
    last[1:] = 31
    torch.testing.assert_close(codec.decode(beyond), codec.decode(last))


def test_window_ends(codec: Codec) -> None:
    """One layer sees exactly `window` positions; the one before has no influence."""
    one = WindowTransformer(codec.config, 16, 1, window=4).eval()
    x = torch.randn(1, 16, 8, generator=torch.Generator().manual_seed(0))
    changed = x.clone()
    changed[..., 2] += 1
    moved = (one(x) - one(changed)).abs().amax(dim=(0, 1)) > 1e-7
    assert moved.tolist() == [False, False, True, True, True, True, False, False]


@pytest.mark.parametrize(
    ("kernel", "stride", "dilation"), [(7, 1, 1), (7, 1, 9), (4, 2, 1), (16, 8, 1), (2, 2, 1), (3, 1, 1)]
)
def test_causal_conv_sees_the_past_only(kernel: int, stride: int, dilation: int) -> None:
    layer = CausalConv(1, 1, kernel, stride, dilation)
    with torch.no_grad():
        layer.conv.weight.fill_(1.0)
        layer.conv.bias.zero_()  # type: ignore[union-attr]
    x = torch.arange(1.0, 41.0).view(1, 1, -1)
    for length in (40, 37):
        out = layer(x[..., :length])[0, 0].detach()
        assert len(out) == -(-length // stride)
        for step, value in enumerate(out):
            last = step * stride + stride - 1
            seen = [last - tap * dilation for tap in range(kernel)]
            assert float(value) == sum(at + 1 for at in seen if 0 <= at < length)


@pytest.mark.parametrize("stride", [2, 4, 8])
def test_transposed_conv_drops_the_last_stride(stride: int) -> None:
    layer = CausalTransConv(1, 1, 2 * stride, stride)
    x = torch.randn(1, 1, 5)
    assert layer(x).shape[-1] == 5 * stride
    torch.testing.assert_close(layer(x[..., :3]), layer(x)[..., : 3 * stride])


def test_nearest_entry_is_by_angle() -> None:
    book = Book(CodecConfig(latent_dim=64, codebook_dim=2), 2)
    with torch.no_grad():
        book.codebook.weight.copy_(torch.tensor([[10.0, 0.0], [0.1, 0.1]]))
        book.in_proj.weight.zero_()
        book.in_proj.bias.copy_(torch.tensor([3.0, 2.9]))  # type: ignore[union-attr]
    assert book.encode(torch.zeros(1, 64, 1)).item() == 1


def test_prefixes_wrappers_and_both_weight_norm_spellings(path: Path, codec: Codec, tmp_path: Path) -> None:
    renamed: dict[str, Any] = {}
    for name, tensor in torch.load(path / "codec.pth", weights_only=True).items():
        if "parametrizations" in name:
            name = name.replace("parametrizations.weight.original0", "weight_g").replace(
                "parametrizations.weight.original1", "weight_v"
            )
        elif name.endswith(("weight_g", "weight_v")):
            name = name.replace("weight_g", "parametrizations.weight.original0").replace(
                "weight_v", "parametrizations.weight.original1"
            )
        renamed[f"generator.{name}"] = tensor
    renamed["discriminator.weight"] = torch.zeros(3)
    torch.save({"state_dict": renamed}, tmp_path / "codec.pth")
    again = read_codec(tmp_path / "codec.pth", codec.config)
    assert all(torch.equal(each, again[name]) for name, each in read_codec(path / "codec.pth", codec.config).items())


@pytest.fixture
def full_size(tmp_path: Path) -> Iterator[Path]:
    yield random_checkpoint.write(tmp_path, "full")
    shutil.rmtree(tmp_path)  # 3.6 GB that pytest would keep


@pytest.mark.slow
def test_full_size_round_trip(full_size: Path) -> None:
    net = Codec.load(CodecConfig(), read_codec(full_size / "codec.pth", CodecConfig()))
    audio = net.decode(some_codes(net, 4))
    assert audio.shape == (4 * 2048,)
    assert net.encode(audio).shape == (10, 4)
