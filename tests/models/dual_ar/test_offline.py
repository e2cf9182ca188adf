"""Audio files ↔ files of codes, against the reference."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from benchmarks import random_checkpoint
from conversion import convert_here
from reference import networks
from saywell.errors import InvalidRequest, UnsupportedMedia
from saywell.models.dual_ar.config import CodecConfig
from saywell.models.dual_ar.offline import decode, encode, read_codes

TINY = random_checkpoint.TINY_CODEC


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_checkpoint.write(tmp_path_factory.mktemp("published"))


@pytest.fixture(scope="module")
def model(published: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return convert_here(published, tmp_path_factory.mktemp("model"), precisions=("fp32",))


@pytest.fixture(scope="module")
def state(published: Path) -> networks.State:
    return networks.published(published / random_checkpoint.CODEC_FILE)


def noise(samples: int) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 0.1, samples).astype(np.float32)


def test_encoded_codes_equal_the_reference(model: Path, state: networks.State, tmp_path: Path) -> None:
    audio = noise(9 * 2048 - 100)
    soundfile.write(tmp_path / "a.wav", audio, 44100, subtype="FLOAT")
    codes = np.load(encode(tmp_path / "a.wav", model, tmp_path / "codes.npy"))
    assert codes.dtype == np.int64
    np.testing.assert_array_equal(codes, networks.encode(state, TINY, audio))


def test_decoded_samples_are_close_to_the_reference(model: Path, state: networks.State, tmp_path: Path) -> None:
    codes = np.random.default_rng(0).integers(0, 32, (4, 70))
    np.save(tmp_path / "codes.npy", codes)
    path = decode(tmp_path / "codes.npy", model, tmp_path / "out.wav")
    audio, rate = soundfile.read(path, dtype="float32")
    assert rate == 44100
    np.testing.assert_allclose(audio, networks.decode(state, TINY, codes), atol=1e-4)


def test_token_row_is_dropped(tmp_path: Path) -> None:
    frames = np.arange(10).reshape(5, 2)
    np.save(tmp_path / "codes.npy", frames)
    np.testing.assert_array_equal(read_codes(tmp_path / "codes.npy", TINY), frames[1:])


@pytest.mark.parametrize(
    "codes",
    [np.zeros((4, 0), int), np.zeros((6, 3), int), np.zeros(4, int), np.zeros((4, 3)), np.array([[None] * 3] * 4)],
)
def test_wrong_codes_are_rejected(tmp_path: Path, codes: np.ndarray) -> None:
    np.save(tmp_path / "codes.npy", codes, allow_pickle=True)
    with pytest.raises(InvalidRequest, match=r"codes\.npy"):
        read_codes(tmp_path / "codes.npy", TINY)


def test_header_cannot_allocate_memory(tmp_path: Path) -> None:
    np.save(tmp_path / "codes.npy", np.zeros((4, 11), np.int64))
    content = (tmp_path / "codes.npy").read_bytes()
    (tmp_path / "codes.npy").write_bytes(content.replace(b"(4, 11), }         ", b"(4, 11111111111), }"))
    with pytest.raises(InvalidRequest, match=r"codes\.npy"):
        read_codes(tmp_path / "codes.npy", TINY)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x93NUMPY\x01\x00"])
def test_file_without_numbers_is_rejected(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "codes.npy").write_bytes(content)
    with pytest.raises(InvalidRequest, match=r"codes\.npy"):
        read_codes(tmp_path / "codes.npy", CodecConfig())


def test_file_without_audio_is_rejected(model: Path, tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"hello")
    with pytest.raises(UnsupportedMedia):
        encode(tmp_path / "a.wav", model, tmp_path / "codes.npy")


def test_decoding_does_not_import_torch(model: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "codes.npy", np.zeros((4, 3), np.int64))
    files = ", ".join(repr(str(each)) for each in (tmp_path / "codes.npy", model, tmp_path / "a.wav"))
    program = (
        f"import sys; from saywell.models.dual_ar.offline import decode; decode({files}); print('torch' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert out.stdout == "False\n"
