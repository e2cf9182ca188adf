from __future__ import annotations

import io
import json
import multiprocessing
import multiprocessing.spawn
import os
import struct
import subprocess
import sys
import time
import venv
import zipfile
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile as sf

import saywell
from saywell.audio import decode as decode_module
from saywell.audio import sandbox
from saywell.audio.decode import decode, decode_file, looks_like_audio
from saywell.audio.encode import Encoder, encode
from saywell.audio.sandbox import Exit
from saywell.child import spawn
from saywell.errors import EngineFailure, InvalidRequest, TooLarge, Unavailable, UnsupportedMedia

POSIX = pytest.mark.skipif(os.name == "nt", reason="resource limits need POSIX")


def tone(seconds: float = 0.5, hz: int = 24000, channels: int = 1) -> np.ndarray:
    t = np.arange(round(seconds * hz)) / hz
    mono = (0.3 * np.sin(2 * np.pi * 330 * t)).astype(np.float32)
    return mono if channels == 1 else np.stack([mono] * channels, axis=1)


def written(container: str, subtype: str, audio: np.ndarray, hz: int = 24000) -> bytes:
    file = io.BytesIO()
    sf.write(file, audio, hz, format=container, subtype=subtype)
    return file.getvalue()


def wav(
    rate: int = 24000,
    channels: int = 1,
    tag: int = 1,
    bits: int = 16,
    data: bytes = bytes(4800),
    size: int | None = None,
) -> bytes:
    """A WAV with an arbitrary header."""
    align = channels * bits // 8
    fmt = struct.pack("<HHIIHH", tag, channels, rate, rate * align & 0xFFFFFFFF, align & 0xFFFF, bits)
    length = len(data) if size is None else size
    return (
        b"RIFF"
        + struct.pack("<I", 36 + len(data))
        + b"WAVEfmt "
        + struct.pack("<I", 16)
        + fmt
        + b"data"
        + struct.pack("<I", length)
        + data
    )


# Supported files


@pytest.mark.parametrize(
    ("container", "subtype", "hz", "tolerance"),
    [
        ("WAV", "PCM_16", 24000, 1e-4),
        ("WAV", "PCM_U8", 8000, 1e-2),
        ("WAV", "PCM_24", 192000, 1e-4),
        ("WAV", "FLOAT", 44100, 1e-6),
        ("WAV", "ULAW", 16000, 2e-2),
        ("AIFF", "PCM_16", 22050, 1e-4),
        ("FLAC", "PCM_16", 24000, 1e-4),
        ("OGG", "VORBIS", 44100, 5e-2),
        ("OGG", "OPUS", 48000, 5e-2),
        ("MP3", "MPEG_LAYER_III", 24000, 5e-2),
    ],
)
def test_formats_are_decoded(container: str, subtype: str, hz: int, tolerance: float) -> None:
    audio, rate = decode(written(container, subtype, tone(hz=hz), hz))
    assert (rate, len(audio), audio.dtype) == (hz, hz // 2, np.float32)
    middle = slice(hz // 20, -hz // 20)
    assert np.abs(audio - tone(hz=hz))[middle].max() < tolerance


@pytest.mark.parametrize("format", ["wav", "flac", "mp3", "opus"])
def test_our_encoded_streams_are_decoded(format: str) -> None:
    encoder = Encoder(format, 24000)
    audio, rate = decode(encoder.feed(tone()) + encoder.finish(), to_hz=24000)
    assert rate == 24000
    assert 12000 <= len(audio) <= 12000 + (1105 + 1152 if format == "mp3" else 0)


def test_stereo_is_averaged() -> None:
    both = np.stack([tone(), 0.5 * tone()], axis=1)
    audio, _ = decode(written("WAV", "FLOAT", both))
    assert np.allclose(audio, 0.75 * tone(), atol=1e-6)


@pytest.mark.parametrize(("left", "right"), [(1.0, -1.0), (0.5, -1.0), (-1.0, 0.9)])
def test_louder_channel_is_used_if_channels_cancel_each_other_out(left: float, right: float) -> None:
    """As recorded by a microphone with swapped wires."""
    audio, _ = decode(written("WAV", "FLOAT", np.stack([left * tone(), right * tone()], axis=1)))
    assert np.allclose(audio, max(left, right, key=abs) * tone(), atol=1e-6)


def packed(kind: str, audio: np.ndarray, hz: int) -> bytes:
    """Encoded by FFmpeg; `kind`: "container encoder"."""
    container, codec = kind.split()
    out = io.BytesIO()
    with av.open(out, "w", format=container) as file:
        stream = file.add_stream(codec, rate=hz, layout="stereo" if audio.ndim == 2 else "mono")
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(np.atleast_2d(audio.T)), "fltp", "stereo" if audio.ndim == 2 else "mono"
        )
        frame.sample_rate = hz
        resampler = av.AudioResampler(stream.format, stream.layout, hz, stream.frame_size or 1024)
        for block in (*resampler.resample(frame), *resampler.resample(None)):
            file.mux(stream.encode(block))
        file.mux(stream.encode(None))
    return out.getvalue()


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize(
    ("kind", "tolerance"),
    [("ipod aac", 1e-1), ("ipod alac", 1e-4), ("mp4 aac", 1e-1), ("adts aac", 1e-1), ("webm libopus", 5e-2)],
)
def test_formats_of_phones_and_browsers_are_decoded(kind: str, tolerance: float, channels: int) -> None:
    hz = 48000
    audio, rate = decode(packed(kind, tone(hz=hz, channels=channels), hz))
    assert rate == hz
    assert abs(len(audio) - hz // 2) <= 2 * 1024 + 1
    middle, expected = audio[hz // 10 : -hz // 10], tone(hz=hz)
    delays = [np.abs(middle - expected[hz // 10 + delay :][: len(middle)]).max() for delay in range(-1100, 1, 4)]
    assert min(delays) < tolerance


def test_opposite_channels_of_an_m4a_are_audible() -> None:
    both = np.stack([tone(hz=48000), -tone(hz=48000)], axis=1)
    audio, _ = decode(packed("ipod alac", both, 48000))
    assert np.abs(audio).max() > 0.29


def test_error_without_pyav_names_the_extra_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode_module, "find_spec", lambda name: None)
    for start in (NOT_AUDIO["mp4"], NOT_AUDIO["webm"], b"\xff\xf1\x50\x80" + bytes(64)):
        with pytest.raises(UnsupportedMedia, match=r"pip install 'saywell\[aac\]'.*ffmpeg -i x.m4a x.wav"):
            decode(start)


@pytest.mark.parametrize("pinned", [False, True])
def test_file_cannot_make_ffmpeg_open_another(pinned: bool, tmp_path: Path) -> None:
    """Even without resource limits and with a demuxer for playlists."""
    (tmp_path / "other.ts").write_bytes(packed("mpegts aac", tone(2.0, hz=48000), 48000))
    playlist = tmp_path / "list"
    playlist.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nfile:{tmp_path}/other.ts\n#EXT-X-ENDLIST\n")
    unpinned = "import av; av.open(io.FileIO(0, closefd=False), format='hls')"
    code = "sandbox.FfmpegSource('hls', 60.0)" if pinned else unpinned
    home = str(Path(sandbox.__file__).parent)
    code = f"import io, sys; sys.path.insert(0, {home!r}); import sandbox; {code}"
    with playlist.open("rb") as file:
        done = subprocess.run([sys.executable, "-I", "-c", code], stdin=file, capture_output=True, timeout=30)
    assert (done.returncode, b"Refused" in done.stderr) == ((1, True) if pinned else (0, False)), done.stderr


@pytest.mark.parametrize("demuxer", [b"\x00\x00\x00\x18ftypmp42", b"\x1a\x45\xdf\xa3"])
def test_damaged_mp4_and_webm_give_4xx(demuxer: bytes) -> None:
    rng, answers = np.random.default_rng(4), []
    good = packed("mp4 aac" if demuxer[4:8] == b"ftyp" else "webm libopus", tone(hz=48000), 48000)
    for _ in range(6):
        try:
            answers.append(decode(good[:8] + mutated(good[8:], rng))[1] and 200)
        except InvalidRequest as refused:
            answers.append(refused.status)
    assert set(answers) <= {200, 400, 413, 415}


def test_audio_is_resampled_to_the_requested_rate() -> None:
    audio, rate = decode(encode(tone(hz=44100), 44100, "wav"), to_hz=24000)
    assert (rate, len(audio)) == (24000, 12000)
    assert np.abs(audio - tone())[1200:-1200].max() < 1e-3


def test_audio_over_full_scale_is_scaled_down() -> None:
    audio, _ = decode(written("WAV", "FLOAT", 40 * tone()))
    np.testing.assert_allclose(audio, tone() / 0.3, atol=1e-4)


def test_file_of_exactly_the_longest_duration_is_decoded() -> None:
    assert len(decode(encode(tone(1.0), 24000, "wav"), max_seconds=1)[0]) == 24000


# Rejected files

ZIP = io.BytesIO()
with zipfile.ZipFile(ZIP, "w") as _archive:
    _archive.writestr("a.wav", encode(tone(), 24000, "wav"))

NOT_AUDIO = {
    "empty": b"",
    "text": b"just some words and no audio",
    "html": b"<!doctype html><html><body>hello</body></html>",
    "playlist": b"#EXTM3U\n#EXTINF:10,\nhttp://127.0.0.1/a.ts\n",
    "concat": b"ffconcat version 1.0\nfile /etc/passwd\n",
    "zip": ZIP.getvalue(),
    "png": b"\x89PNG\r\n\x1a\n" + bytes(64),
    "webm": b"\x1a\x45\xdf\xa3" + bytes(64),
    "mp4": b"\x00\x00\x00\x18ftypmp42" + bytes(64),
    "wasm": b"\x00asm" + bytes(64),
    "avi": b"RIFF\x00\x01\x00\x00AVI LIST" + bytes(64),
    "webp": b"RIFF\x00\x01\x00\x00WEBPVP8 " + bytes(64),
    "adpcm": written("WAV", "MS_ADPCM", tone()),
    "gsm": written("WAV", "GSM610", tone(hz=8000), 8000),
    "zeros": bytes(4096),
}


@pytest.mark.parametrize("name", NOT_AUDIO)
def test_other_files_are_415(name: str) -> None:
    with pytest.raises(UnsupportedMedia, match="WAV, FLAC, OGG"):
        decode(NOT_AUDIO[name])


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (wav(rate=0), "damaged|sample rate|no samples"),
        (wav(rate=1), "sample rate"),
        (wav(rate=7999), "sample rate"),
        (wav(rate=192001), "sample rate"),
        (wav(rate=2**31 - 1), "sample rate|damaged"),
        (wav(channels=0), "damaged|mono"),
        (wav(channels=3, data=bytes(6000)), "mono"),
        (wav(channels=1024, data=bytes(2048 * 10)), "mono|damaged"),
        (wav(data=b""), "no samples"),
        (wav()[:30], "damaged"),
        (written("WAV", "FLOAT", np.array([0, np.nan, 0], np.float32)), "not numbers"),
        (written("WAV", "FLOAT", np.array([0, np.inf, 0], np.float32)), "not numbers"),
        (b"fLaC" + bytes(100), "damaged"),
        (b"OggS" + bytes(100), "damaged"),
    ],
    ids=range(14),  # libsndfile writes the time into a float file, so its bytes are no stable id
)
def test_false_headers_and_damaged_files_are_400(data: bytes, words: str) -> None:
    with pytest.raises(InvalidRequest, match=words) as refused:
        decode(data)
    assert refused.value.status == 400


def test_header_with_a_false_length_gives_the_samples_present() -> None:
    assert len(decode(wav(size=0xFFFFFFF0))[0]) == 2400


def test_too_large_and_other_files_start_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode_module.subprocess, "Popen", None)
    with pytest.raises(TooLarge, match="allowed"):
        decode(wav(), max_bytes=100)
    with pytest.raises(UnsupportedMedia):
        decode(NOT_AUDIO["html"])
    assert looks_like_audio(wav())


def test_local_files_may_be_larger_than_uploads(tmp_path: Path) -> None:
    """A minute of 96 kHz in stereo and floating point: 46 MB."""
    path = tmp_path / "minute.wav"
    sf.write(path, np.zeros((60 * 96000, 2), np.float32), 96000, subtype="FLOAT")
    audio, rate = decode_file(path)
    assert (len(audio), rate) == (60 * 96000, 96000)
    with pytest.raises(TooLarge, match="10,485,760 bytes"):
        decode(path.read_bytes())


def without_length(flac: bytes) -> bytes:
    """A FLAC file without the number of samples (36 bits from byte 21) and the digest in its header."""
    return flac[:21] + bytes([flac[21] & 0xF0]) + bytes(20) + flac[42:]


@cache
def bomb(kind: str) -> bytes:
    """Minutes of silence in a few kilobytes."""
    if kind == "flac without a length":
        return without_length(bomb("flac"))
    container, subtype, hz, seconds = {
        "flac": ("FLAC", "PCM_16", 24000, 600),
        "opus": ("OGG", "OPUS", 48000, 90),
        "mp3": ("MP3", "MPEG_LAYER_III", 8000, 300),
    }[kind]
    return written(container, subtype, np.zeros(hz * seconds, np.float32), hz)


@pytest.mark.parametrize("kind", ["flac", "flac without a length", "opus", "mp3"])
def test_decompression_bomb_is_413_within_seconds(kind: str) -> None:
    data = bomb(kind)
    started = time.monotonic()
    with pytest.raises(TooLarge, match="longer than 60 s"):
        decode(data)
    assert time.monotonic() - started < 5


def test_impossible_rate_in_a_flac_is_rejected() -> None:
    data = bytearray(written("FLAC", "PCM_16", tone(), 24000))
    data[18:21] = (655350 << 4 | 7 << 1).to_bytes(3, "big")  # 655,350 Hz, 8 channels
    with pytest.raises(InvalidRequest):
        decode(bytes(data))


# The child process


def child_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Replace the sandbox by another program."""
    path = tmp_path / "child.py"
    path.write_text("import os, sys, time, struct\nout = sys.stdout.buffer\n" + code)
    monkeypatch.setattr(sandbox, "__file__", str(path))


def test_hanging_child_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    child_script(tmp_path, monkeypatch, "out.write(b'R'); out.flush(); time.sleep(60)")
    monkeypatch.setattr(decode_module, "WALL_S", 0.5)
    started = time.monotonic()
    with pytest.raises(InvalidRequest, match="damaged"):
        decode(wav())
    assert time.monotonic() - started < 5


def test_compromised_child_cannot_flood_the_parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flood = "out.write(b'R' + struct.pack('<I', 8000))\nwhile True: out.write(bytes(65536))"
    child_script(tmp_path, monkeypatch, flood)
    started = time.monotonic()
    with pytest.raises((InvalidRequest, EngineFailure)):
        decode(wav(), max_seconds=1)
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("rate", [0, 1, 2**32 - 1])
def test_impossible_rate_from_the_child_is_rejected(rate: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    child_script(
        tmp_path, monkeypatch, f"out.write(b'R' + struct.pack('<I', {rate}) + bytes(800)); out.flush(); sys.exit(42)"
    )
    with pytest.raises(InvalidRequest, match="damaged"):
        decode(wav())


@pytest.mark.parametrize("code", ["sys.exit(1)", "raise ImportError('no libsndfile')", "out.write(b'R'); sys.exit(1)"])
def test_failure_of_the_child_itself_is_an_engine_failure(
    code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    child_script(tmp_path, monkeypatch, code)
    with pytest.raises(EngineFailure):
        decode(wav())


@POSIX
def test_crash_of_the_child_is_blamed_on_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    child_script(tmp_path, monkeypatch, "out.write(b'R'); out.flush(); os.abort()")
    with pytest.raises(InvalidRequest, match="damaged"):
        decode(wav())


def test_output_of_the_child_is_not_logged(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for data in (wav()[:30], bomb("mp3"), b"OggS" + bytes(100)):
        with pytest.raises(InvalidRequest):
            decode(data)
    child_script(tmp_path, monkeypatch, "out.write(b'R'); print('a message', file=sys.stderr); sys.exit(42)")
    with pytest.raises(InvalidRequest):
        decode(wav())
    assert capfd.readouterr() == ("", "")


def test_child_gets_no_environment_variables_of_the_parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAYWELL_API_KEY", "secret")
    leak = tmp_path / "leak"
    code = f"open({str(leak)!r}, 'w').write(repr(os.environ)); out.write(b'R'); sys.exit(42)"
    child_script(tmp_path, monkeypatch, code)
    with pytest.raises(InvalidRequest):
        decode(wav())
    assert "secret" not in leak.read_text()


@POSIX
def test_child_finds_packages_on_the_path_of_the_parent(tmp_path: Path) -> None:
    """As after `pip install --user`, `--target`, or with PYTHONPATH; the Python itself has no packages."""
    venv.create(tmp_path / "bare", symlinks=True)
    directories = [str(Path(file).parent) for file in (saywell.__path__[0], np.__path__[0], sf.__file__)]
    code = "import sys; from saywell.audio.decode import decode; print(len(decode(sys.stdin.buffer.read())[0]))"
    done = subprocess.run(
        [tmp_path / "bare" / "bin" / "python", "-c", code], input=wav(), capture_output=True, timeout=60,
        env={"PYTHONPATH": os.pathsep.join(dict.fromkeys(directories))},
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, b"2400\n"), done.stderr


def test_files_next_to_packages_do_not_shadow_the_standard_library(tmp_path: Path) -> None:
    """The directory passed to the child has a `struct.py` that would end it."""
    (tmp_path / "struct.py").write_text("raise SystemExit(9)")
    (tmp_path / "own.py").write_text("import struct")
    arguments = [decode_module._LAUNCH, str(tmp_path / "own.py"), "60", "5", "1", "", str(tmp_path)]
    launch = [sys.executable, "-I", "-S", "-c", *arguments]
    assert subprocess.run(launch, capture_output=True, timeout=30).returncode == 0


@pytest.mark.parametrize("executable", ["app", "uwsgi"])
def test_frozen_application_does_not_start_itself_as_python(
    executable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its executable, run as if it were Python, would start the application again, recursively."""
    program = tmp_path / executable
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
    program.chmod(0o755)
    before = multiprocessing.spawn.get_executable()
    try:
        for frozen in (True, False):
            monkeypatch.setattr(sys, "frozen", frozen, raising=False)
            monkeypatch.setattr(sys, "executable", str(program))
            multiprocessing.set_executable(str(program))
            for start in (lambda: decode(wav()), lambda: spawn("saywell.engine.worker.process")):
                with pytest.raises(Unavailable, match="set_executable"):
                    start()
            multiprocessing.set_executable(os.fsdecode(before))  # an application can configure a Python
            assert len(decode(wav())[0]) == 2400
    finally:
        multiprocessing.set_executable(os.fsdecode(before))
    assert not (tmp_path / "started").exists()


def limited(code: str, limits: bool) -> subprocess.CompletedProcess[bytes]:
    """Run code with the limits of the sandbox or, as a control, without."""
    home = str(Path(sandbox.__file__).parent)
    setup = f"import sys; sys.path.insert(0, {home!r}); import sandbox, socket, os, numpy as np\n"
    if limits:
        setup += "sandbox.limit(1, 128 << 20)\n"
    return subprocess.run([sys.executable, "-I", "-c", setup + code], capture_output=True, timeout=30)


@POSIX
@pytest.mark.parametrize(
    "code",
    [
        "open('/dev/null')",
        "socket.socket()",
        "np.ones(64 << 20)",
        "open(1, 'wb', closefd=False); os.write(os.open('/tmp', os.O_TMPFILE | os.O_RDWR), b'x')",
    ],
    ids=["open", "connect", "memory", "write"],
)
@pytest.mark.skipif(sys.platform != "linux", reason="the limits of other systems differ")
def test_limits_prevent_what_is_possible_without_them(code: str) -> None:
    assert limited(code, limits=False).returncode == 0
    refused = limited(code, limits=True)
    assert refused.returncode == 1
    assert b"Too many open files" in refused.stderr or b"MemoryError" in refused.stderr


@POSIX
def test_cpu_limit_ends_an_endless_loop() -> None:
    started = time.monotonic()
    assert limited("while True: pass", limits=True).returncode < 0
    assert time.monotonic() - started < 15


def test_concurrent_decoding() -> None:
    def one(number: int) -> int:
        if number % 2:
            with pytest.raises(TooLarge):
                decode(bomb("opus"))
            return 0
        return len(decode(encode(tone(0.1 * (number + 1)), 24000, "flac"))[0])

    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(one, range(6))) == [2400, 0, 7200, 0, 12000, 0]


# Mutations. Each runs `main` of the sandbox in a fork of a small process, which takes 3 ms instead of 90.

FORKS = """
import json, os, resource, struct, sys, time
sys.path.insert(0, sys.argv[1])
import sandbox
seen, blob = [], sys.stdin.buffer
while head := blob.read(4):
    data = blob.read(struct.unpack("<I", head)[0])
    file = os.memfd_create("case"); os.write(file, data); os.lseek(file, 0, 0)
    read, write = os.pipe()
    started = time.monotonic()
    if not (pid := os.fork()):
        os.dup2(file, 0); os.dup2(write, 1); os.dup2(os.open(os.devnull, os.O_RDWR), 2); os.close(read)
        code = 1
        try:
            code = sandbox.main(60.0, 5, 128 << 20)
        finally:
            os._exit(code)
    os.close(write)
    sent = 0
    while piece := os.read(read, 1 << 20):
        sent += len(piece)
    _, status, used = os.wait4(pid, 0)
    os.close(read); os.close(file)
    seen.append([os.waitstatus_to_exitcode(status), sent, time.monotonic() - started, used.ru_maxrss])
print(json.dumps(seen))
"""


def seeds() -> list[bytes]:
    """Small files of each format, so that headers are a large part of them."""
    mono, stereo = tone(0.1), tone(0.1, channels=2)
    kinds = [("WAV", "PCM_16"), ("WAV", "FLOAT"), ("AIFF", "PCM_16"), ("FLAC", "PCM_16"), ("FLAC", "PCM_24")]
    kinds += [("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III"), ("WAV", "MS_ADPCM"), ("WAV", "IMA_ADPCM")]
    return [written(container, subtype, audio) for container, subtype in kinds for audio in (mono, stereo)]


def mutated(seed: bytes, rng: np.random.Generator) -> bytes:
    """One to eight mutations: flipped bits, extreme integers, cuts, repeats, mostly in the header."""
    data = bytearray(seed)
    for _ in range(rng.integers(1, 9)):
        reach = min(len(data), 64 if rng.random() < 0.6 else len(data))
        i, kind = int(rng.integers(0, max(reach, 1))), rng.integers(0, 5)
        if kind == 0 and data:
            data[i] ^= 1 << int(rng.integers(0, 8))
        elif kind == 1:
            data[i : i + 4] = struct.pack("<I", rng.choice([0, 1, 0x7FFFFFFF, 0xFFFFFFFF, 655350, 0x80000000]))
        elif kind == 2:
            data[i : i + 4] = struct.pack(">I", rng.choice([0, 1, 0x7FFFFFFF, 0xFFFFFFFF, 0xFFFF]))
        elif kind == 3:
            del data[int(rng.integers(0, len(data) + 1)) :]
        else:
            data[i:i] = data[i : i + int(rng.integers(1, 200))]
    return bytes(data)


def forked(cases: list[bytes]) -> list[list[float]]:
    """For each case: exit status, bytes sent, seconds, peak KiB."""
    blob = b"".join(struct.pack("<I", len(case)) + case for case in cases)
    command = [sys.executable, "-I", "-c", FORKS, str(Path(sandbox.__file__).parent)]
    done = subprocess.run(command, input=blob, capture_output=True, timeout=600, check=True)
    return json.loads(done.stdout)


def check_mutations(number: int, seed: int) -> None:
    rng, originals = np.random.default_rng(seed), seeds()
    cases = [mutated(originals[i % len(originals)], rng) for i in range(number)]
    seen = forked(cases)
    known = set(Exit)
    for case, (status, sent, seconds, peak) in zip(cases, seen, strict=True):
        assert status in known, (status, case[:64])
        assert sent <= 5 + 60 * 192000 * 4
        assert seconds < 5
        assert peak < 256 << 10
    statuses = [status for status, *_ in seen]
    assert statuses.count(Exit.DONE) > number / 20, "some can be decoded"
    assert len(set(statuses)) >= 5, "and the others fail in many ways"


@pytest.mark.skipif(sys.platform != "linux", reason="needs fork and memfd")
def test_header_with_too_long_a_duration_is_rejected_before_decoding() -> None:
    assert [case[:2] for case in forked([bomb("flac"), bomb("opus")])] == [[Exit.TOO_LONG, 1]] * 2


@pytest.mark.skipif(sys.platform != "linux", reason="needs fork and memfd")
def test_mutated_files_never_crash_the_child_or_exceed_its_limits() -> None:
    check_mutations(800, seed=1)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(sys.platform != "linux", reason="needs fork and memfd")
def test_twenty_thousand_mutated_files() -> None:
    check_mutations(20_000, seed=2)


def test_mutated_files_give_4xx_or_audio() -> None:
    rng, answers = np.random.default_rng(3), []
    for seed in seeds():
        try:
            audio, rate = decode(mutated(seed, rng), to_hz=24000)
        except InvalidRequest as refused:
            answers.append(refused.status)
        else:
            answers.append(200 if rate == 24000 and np.isfinite(audio).all() else 500)
    assert set(answers) <= {200, 400, 413, 415}
    assert len(set(answers)) > 1
