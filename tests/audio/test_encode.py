from __future__ import annotations

import gc
import io
import os
import struct
import sys
import threading
import time
import wave
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile as sf
from hypothesis import given, settings
from hypothesis import strategies as st

from saywell.audio.encode import Encoder, encode, format_of, save, to_int16
from saywell.audio.formats import FORMATS
from saywell.audio.formats import sndfile as room
from saywell.audio.resample import resample
from saywell.errors import BadAudio, UnsupportedMedia

COMPRESSED = ("mp3", "opus", "aac", "flac")
MP3_DELAY, AAC_DELAY = 1105, 1024
"""Samples a decoder yields before the first of ours."""


def voice(seconds: float, hz: int) -> np.ndarray:
    """A buzz with a syllable rhythm and a little noise: enough like speech for a codec to keep its shape."""
    t = np.arange(round(seconds * hz)) / hz
    buzz = sum(np.sin(2 * np.pi * 140 * k * t + k) / k for k in range(1, 12))
    breath = np.random.default_rng(1).normal(0, 0.003, len(t))
    return (0.15 * buzz * (1 - np.cos(2 * np.pi * 4 * t)) / 2 + breath).astype(np.float32)


def streamed(format: str, audio: np.ndarray, hz: int, piece: int = 480) -> bytes:
    encoder = Encoder(format, hz)
    out = [encoder.feed(audio[i : i + piece]) for i in range(0, len(audio), piece)]
    return b"".join([*out, encoder.finish()])


def decoded(data: bytes, format: str) -> tuple[np.ndarray, int]:
    """By FFmpeg, which is not what encoded it (but for aac)."""
    if format == "pcm":
        return np.frombuffer(data, "<i2").astype(np.float32) / 32768, 24000
    with av.open(io.BytesIO(data)) as file:
        frames = list(file.decode(audio=0))
        audio = np.concatenate([frame.to_ndarray().reshape(-1) for frame in frames])
        scale = 32768 if audio.dtype == np.int16 else 1
        return audio.astype(np.float32) / scale, frames[0].sample_rate


def likeness(a: np.ndarray, b: np.ndarray) -> float:
    """Correlation, 1 for the same shape."""
    return float(np.dot(a, b) / (np.linalg.norm(a) * np.linalg.norm(b) + 1e-12))


def test_the_table_is_the_one_clients_rely_on() -> None:
    assert {f.name: f.content_type for f in FORMATS.values()} == {
        "mp3": "audio/mpeg",
        "opus": "audio/ogg",
        "aac": "audio/aac",
        "flac": "audio/flac",
        "wav": "audio/wav",
        "pcm": "audio/pcm",
    }
    assert {f.name for f in FORMATS.values() if f.sample_rate} == {"opus", "pcm"}
    assert FORMATS["pcm"].sample_rate == 24000
    assert FORMATS["opus"].sample_rate == 48000


@pytest.mark.parametrize(
    ("hz", "expected"), [(8000, 8000), (24000, 24000), (20000, 22050), (30000, 32000), (96000, 48000)]
)
def test_a_rate_the_codec_does_not_know_becomes_the_next_above(hz: int, expected: int) -> None:
    assert FORMATS["mp3"].rate_for(hz) == expected
    assert FORMATS["flac"].rate_for(hz) == hz


@pytest.mark.parametrize("hz", [16000, 22050, 24000, 30000, 44100])
@pytest.mark.parametrize("format", FORMATS)
def test_streamed_audio_decodes_to_the_end_at_its_length(format: str, hz: int) -> None:
    audio = voice(1.3, hz)
    got, rate = decoded(streamed(format, audio, hz), format)
    assert rate == FORMATS[format].rate_for(hz)
    wanted = resample(audio, hz, rate)
    extra = len(got) - len(wanted)
    if format == "mp3":
        assert MP3_DELAY <= extra <= MP3_DELAY + 2304
    elif format == "aac":
        assert AAC_DELAY <= extra < AAC_DELAY + 1024
    else:
        assert extra == 0
    delay = {"mp3": MP3_DELAY, "aac": AAC_DELAY}.get(format, 0)
    aligned = got[delay : delay + len(wanted)]
    assert likeness(aligned, wanted) > 0.98
    assert likeness(aligned[-rate // 10 :], wanted[-rate // 10 :]) > 0.9, "the last tenth of a second is there"


@pytest.mark.parametrize("format", FORMATS)
def test_a_saved_file_has_its_true_length(format: str, tmp_path: Path) -> None:
    audio = voice(1.1, 24000)
    path = save(tmp_path / f"a{FORMATS[format].extension}", audio, 24000)
    got, rate = decoded(path.read_bytes(), format)
    wanted = len(resample(audio, 24000, rate))
    assert len(got) - wanted == 0 if format != "aac" else AAC_DELAY <= len(got) - wanted < AAC_DELAY + 1024
    if format not in ("aac", "pcm"):
        assert sf.info(path).frames == wanted, "the header says so too"
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("format", FORMATS)
def test_a_stream_with_its_patches_equals_the_complete_file(format: str) -> None:
    audio, encoder = voice(1.1, 24000), Encoder(format, 24000, patched=True)
    grown = bytearray(b"".join(encoder.feed(piece) for piece in np.array_split(audio, 7)) + encoder.finish())
    for at, piece in encoder.patches():
        grown[at : at + len(piece)] = piece
    whole = encode(audio, 24000, format)
    assert len(grown) == len(whole)
    if format == "opus":  # every Ogg stream has a random number of its own
        assert np.array_equal(decoded(bytes(grown), format)[0], decoded(whole, format)[0])
    else:
        assert grown == whole


@pytest.mark.parametrize("format", ["wav", "flac", "pcm"])
def test_lossless_formats_keep_every_16_bit_sample(format: str) -> None:
    exact = np.random.default_rng(2).integers(-32768, 32768, 24000).astype(np.float32) / 32768
    for data in (streamed(format, exact, 24000), encode(exact, 24000, format)):
        assert np.array_equal(decoded(data, format)[0], exact)


@pytest.mark.parametrize("format", [f for f in FORMATS if f != "opus"])
@settings(max_examples=8, deadline=None)
@given(cuts=st.lists(st.integers(0, 12000), max_size=20))
def test_any_split_gives_the_identical_file(format: str, cuts: list[int]) -> None:
    audio, encoder = voice(0.5, 24000), Encoder(format, 24000)
    pieces = [encoder.feed(piece) for piece in np.split(audio, sorted(cuts))]
    assert b"".join([*pieces, encoder.finish()]) == streamed(format, audio, 24000)


def test_any_split_gives_the_identical_opus_sound() -> None:
    """Ogg streams carry a random serial number, so the sound is compared and not the file."""
    audio = voice(0.5, 24000)
    one, other = (decoded(streamed("opus", audio, 24000, piece), "opus")[0] for piece in (12000, 77))
    assert np.array_equal(one, other)


@pytest.mark.parametrize("hz", [16000, 24000, 44100])
@pytest.mark.parametrize("format", FORMATS)
def test_sound_leaves_early_and_steadily(format: str, hz: int) -> None:
    """After any 20 ms piece, what was sent decodes to all but the last 250 ms: no encoder sits on a second of audio.

    FLAC, whose blocks are short on purpose, keeps less.
    """
    audio, encoder, sent = voice(1.5, hz), Encoder(format, hz), b""
    for number, piece in enumerate(np.array_split(audio, 75), 1):
        sent += encoder.feed(piece)
        if number in (15, 40, 75):
            got, rate = decoded(sent, format)
            assert len(got) / rate >= number * 0.02 - (0.12 if format == "flac" else 0.25), (format, number)


def test_a_streamed_wav_has_no_sizes_and_nothing_after_the_data() -> None:
    audio = voice(0.2, 24000)
    data = streamed("wav", audio, 24000)
    assert struct.unpack("<4sI4s4sIHHIIHH4sI", data[:44]) == (
        *(b"RIFF", 0xFFFFFFFF, b"WAVE", b"fmt ", 16, 1, 1, 24000, 48000, 2, 16, b"data", 0xFFFFFFFF),
    )
    assert data[44:] == to_int16(audio).tobytes()


def test_a_saved_wav_satisfies_the_standard_library(tmp_path: Path) -> None:
    with wave.open(str(save(tmp_path / "a.wav", voice(0.2, 22050), 22050))) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth(), file.getnframes()) == (22050, 1, 2, 4410)


def test_int16_is_rounded_clamped_and_never_wraps() -> None:
    floats = np.array([0, 1, -1, 1.2, -1.2, 1e9, -1e9, 0.5, 1.4 / 32768, 1.6 / 32768, -1.6 / 32768], np.float32)
    expected = [0, 32767, -32768, 32767, -32768, 32767, -32768, 16384, 1, 2, -2]
    assert to_int16(floats).tolist() == expected


@pytest.mark.parametrize("format", FORMATS)
def test_over_full_scale_is_clamped_in_every_format(format: str) -> None:
    loud = 3 * np.sin(2 * np.pi * 200 * np.arange(24000) / 24000).astype(np.float32)
    got, rate = decoded(streamed(format, loud, 24000), format)
    delay = {"mp3": MP3_DELAY, "aac": AAC_DELAY}.get(format, 0)
    wanted = resample(np.clip(loud, -1, 1), 24000, rate)
    assert likeness(got[delay : delay + len(wanted)], wanted) > 0.97, "no sign flips"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("format", FORMATS)
def test_nan_and_infinity_are_rejected(format: str, value: float) -> None:
    audio = voice(0.1, 24000)
    audio[700] = value
    with pytest.raises(BadAudio):
        Encoder(format, 24000).feed(audio)
    with pytest.raises(BadAudio):
        encode(audio, 24000, format)


@pytest.mark.parametrize("samples", [0, 1, 100])
@pytest.mark.parametrize("format", FORMATS)
def test_the_shortest_files_are_valid(format: str, samples: int) -> None:
    audio = np.zeros(samples, np.float32)
    for data in (streamed(format, audio, 24000), encode(audio, 24000, format)):
        if samples or format in COMPRESSED:
            assert len(decoded(data, format)[0]) >= samples
        else:
            assert len(data) == (44 if format == "wav" else 0)


def test_a_streamed_mp3_begins_with_sound_and_not_with_an_empty_table() -> None:
    data = streamed("mp3", voice(0.5, 24000), 24000)
    assert data[0] == 0xFF
    assert any(data[4:100])


def test_a_streamed_mp3_lets_players_work_out_its_length() -> None:
    """They divide the file's size by the first frame's bitrate, which only a constant one allows."""
    with av.open(io.BytesIO(streamed("mp3", voice(20, 24000), 24000))) as file:
        assert file.duration / av.time_base == pytest.approx(20, abs=0.15)


def test_an_encoder_dropped_halfway_leaves_nothing_behind() -> None:
    for format in FORMATS:
        encoder = Encoder(format, 24000)
        encoder.feed(voice(0.3, 24000))
        del encoder
    gc.collect()


def test_an_unknown_format_lists_the_known_ones() -> None:
    with pytest.raises(UnsupportedMedia, match="mp3, opus, aac, flac, wav, pcm") as refused:
        Encoder("midi", 24000)
    assert refused.value.status == 415
    with pytest.raises(UnsupportedMedia, match=r"\.wav"):
        format_of("song.xm")
    with pytest.raises(UnsupportedMedia):
        encode(voice(0.1, 24000), 24000, "WAV ")


@pytest.mark.parametrize(
    ("name", "format"), [("a.WAV", "wav"), ("a.b.opus", "opus"), ("a.ogg", "opus"), ("x/y.pcm", "pcm")]
)
def test_the_extension_names_the_format(name: str, format: str) -> None:
    assert format_of(name) == format


def test_aac_without_its_library_names_the_package_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(UnsupportedMedia, match=r"pip install 'saywell\[aac\]'"):
        Encoder("aac", 24000)
    assert Encoder("mp3", 24000).feed(voice(0.2, 24000))


def test_a_libsndfile_without_a_format_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room.sf, "check_format", lambda *_: False)
    with pytest.raises(UnsupportedMedia, match="libsndfile"):
        Encoder("mp3", 24000)


def test_a_failed_save_leaves_the_old_file_and_no_new_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "a.wav", voice(0.1, 24000), 24000)
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        save(path, voice(0.2, 24000), 24000)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["a.wav"]


def test_an_explicit_format_wins_over_the_extension(tmp_path: Path) -> None:
    assert save(tmp_path / "a.bin", voice(0.1, 24000), 24000, "flac").read_bytes()[:4] == b"fLaC"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are a POSIX thing")
def test_a_pipe_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    pipe, got = tmp_path / "pipe.wav", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()))
    reader.start()
    save(pipe, voice(0.1, 24000), 24000)
    reader.join(timeout=10)
    assert got[0][:4] == b"RIFF"
    assert pipe.is_fifo()


@pytest.mark.parametrize("format", FORMATS)
def test_encoding_is_many_times_faster_than_real_time(format: str) -> None:
    """Far below the 70 to 2000 times measured on one core, so that only a real loss turns this red."""
    audio, started = voice(4, 24000), time.process_time()
    streamed(format, audio, 24000)
    assert time.process_time() - started < 4 / 7
