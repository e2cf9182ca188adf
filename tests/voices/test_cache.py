"""Caches stay within their bounds and return what was stored or nothing."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from hypothesis import given
from hypothesis import strategies as st

from damage import damaged, flipped
from saywell.files import Damaged, read_plain, write_atomically
from saywell.types import VoiceState
from saywell.voices import cache as cache_module
from saywell.voices.cache import DiskCache, MemoryCache
from saywell.voices.checksummed import pack, unpack

needs_posix = pytest.mark.skipif(os.name != "posix", reason="about POSIX files")


def key(name: object) -> str:
    return hashlib.sha256(str(name).encode()).hexdigest()


def codes(seed: int, frames: int = 50, transcript: str = "") -> VoiceState:
    """Equal keys mean bit-identical states."""
    return VoiceState.of(
        {"codes": np.random.default_rng(seed).integers(0, 1024, (10, frames))}, {"transcript": transcript}
    )


def file_of(cache: DiskCache, name: object) -> Path:
    return cache.directory / f"{key(name)}.safetensors"


@pytest.fixture
def disk(tmp_path: Path) -> DiskCache:
    return DiskCache(tmp_path / "cache", 1 << 20)


# -- checksummed files


texts = st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=9), st.text('aé😀\n"\\'), max_size=3)


@given(
    st.dictionaries(
        st.text("ab.é ", max_size=3),
        st.tuples(
            st.sampled_from(["<i8", "<f4", "|u1", "<f2", ">f4", "<f8", "|b1"]),
            st.lists(st.integers(0, 5), max_size=3),
        ),
        max_size=3,
    ),
    texts,
)
def test_packed_state_is_unpacked_unchanged(arrays: dict[str, tuple[str, list[int]]], meta: dict[str, str]) -> None:
    expected = {
        name: np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(dtype)
        for name, (dtype, shape) in arrays.items()
    }
    state, metadata = unpack("name", pack("name", VoiceState.of(expected, meta), {"family": "f"}))
    assert metadata["family"] == "f"
    assert state.key == VoiceState.of(expected, meta).key
    assert state.meta == meta
    assert state.arrays.keys() == expected.keys()
    for name, array in expected.items():
        unpacked = state.arrays[name]
        assert (unpacked.dtype, unpacked.shape) == (array.dtype.newbyteorder("<"), array.shape)
        np.testing.assert_array_equal(unpacked, array)
        assert not unpacked.flags.writeable


def test_key_of_a_state_depends_on_all_of_its_content() -> None:
    array = np.arange(6, dtype=np.int64)
    states = [
        VoiceState.of({"a": array}),
        VoiceState.of({"b": array}),
        VoiceState.of({"a": array.astype(np.int32)}),
        VoiceState.of({"a": array.reshape(2, 3)}),
        VoiceState.of({"a": array.reshape(3, 2)}),
        VoiceState.of({"a": array + 1}),
        VoiceState.of({"a": array, "b": array}),
        VoiceState.of({"a": array}, {"a": "b"}),
        VoiceState.of({"a": array}, {"a": "c"}),
        VoiceState.of({}),
    ]
    assert len({state.key for state in states}) == len(states)
    assert VoiceState.of({"a": array[::2]}).key == VoiceState.of({"a": array[::2].copy()}).key
    kept = VoiceState.of({"a": array})
    array += 1
    assert kept.arrays["a"][0] == 0


def test_any_flipped_bit_is_detected() -> None:
    data = pack("name", codes(1, 2, "hello"), {"model": "m"})
    for content in flipped(data):
        with pytest.raises(Damaged):
            unpack("name", content)


def test_missing_or_additional_bytes_are_detected() -> None:
    data = pack("name", codes(1, 2))
    for length in range(len(data)):
        with pytest.raises(Damaged):
            unpack("name", data[:length])
    with pytest.raises(Damaged):
        unpack("name", data + b"\0")


def test_file_under_another_name_is_detected() -> None:
    with pytest.raises(Damaged, match="digest"):
        unpack("other", pack("name", codes(1)))


@needs_posix
def test_links_pipes_and_large_files_are_not_read(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_bytes(b"secret")
    (tmp_path / "link").symlink_to(target)
    os.mkfifo(tmp_path / "pipe")
    before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0
    for name in ("link", "pipe", "."):
        with pytest.raises(Damaged):
            read_plain(tmp_path / name, 100)
    with pytest.raises(Damaged):
        read_plain(target, 5)
    assert read_plain(target, 6) == b"secret"
    assert before == (len(os.listdir("/proc/self/fd")) if before else 0)


@needs_posix
def test_files_are_private_to_the_owner(disk: DiskCache) -> None:
    disk.put(key(1), codes(1))
    assert disk.directory.stat().st_mode & 0o777 == 0o700
    assert file_of(disk, 1).stat().st_mode & 0o777 == 0o600


def test_failed_write_keeps_the_old_file_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "no")

    for where in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(os, where, fail)
            patch.setattr(Path, "replace", fail)
            with pytest.raises(OSError, match="no"):
                write_atomically(path, b"new")
        assert [file.name for file in tmp_path.iterdir()] == ["file"]
        assert path.read_bytes() == b"old"


# -- in memory


def test_memory_evicts_the_least_recently_used() -> None:
    cache: MemoryCache[np.ndarray] = MemoryCache(3 * (800 + 256))
    arrays = [np.zeros(100) + n for n in range(4)]
    for n in range(3):
        cache.put(str(n), arrays[n])
    assert cache.get("0") is arrays[0]
    cache.put("3", arrays[3])
    assert [name for name in "0123" if cache.get(name) is not None] == ["0", "2", "3"]
    assert cache.nbytes == 3 * 1056
    cache.clear()
    assert cache.nbytes == 0
    assert cache.get("0") is None


def test_memory_bounds_the_number_of_entries_and_bounds_can_change() -> None:
    cache: MemoryCache[np.ndarray] = MemoryCache(100_000, max_entries=3)
    for n in range(5):
        cache.put(str(n), np.zeros(100))
    assert [name for name in "01234" if cache.get(name) is not None] == ["2", "3", "4"]
    cache.limit(100_000, max_entries=2)
    assert cache.nbytes == 2 * 1056
    cache.limit(1100, max_entries=2)
    assert (cache.nbytes, cache.get("4") is not None) == (1056, True)
    cache.limit(100_000, max_entries=0)
    cache.put("5", np.zeros(1))
    assert cache.nbytes == 0


def test_memory_does_not_keep_values_above_its_bound() -> None:
    cache: MemoryCache[np.ndarray] = MemoryCache(1000)
    cache.put("a", np.zeros(10))
    cache.put("b", np.zeros(1000))
    assert cache.get("a") is not None
    cache.put("a", np.zeros(1000))
    assert cache.get("a") is None
    assert cache.nbytes == 0


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 500)), max_size=60))
def test_memory_stays_within_its_bound(puts: list[tuple[str, int]]) -> None:
    cache: MemoryCache[np.ndarray] = MemoryCache(2000)
    for name, size in puts:
        cache.put(name, np.zeros(size, np.uint8))
        assert cache.nbytes <= 2000
        assert cache.get(name) is not None
    values = [cache.get(name) for name in "abcdef"]
    assert cache.nbytes == sum(value.nbytes + 256 for value in values if value is not None)


def test_memory_is_safe_among_threads() -> None:
    cache: MemoryCache[np.ndarray] = MemoryCache(50 * (80 + 256))

    def work(seed: int) -> None:
        choose = random.Random(seed)
        for _ in range(500):
            n = choose.randrange(100)
            cache.put(str(n), np.full(10, n, np.float64))
            value = cache.get(str(choose.randrange(100)))
            assert value is None or value.shape == (10,)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert cache.nbytes == 50 * 336
    assert sum(cache.get(str(n)) is not None for n in range(100)) == 50


# -- on disk


def test_disk_survives_restart(disk: DiskCache) -> None:
    assert disk.get(key(1)) is None
    assert disk.put(key(1), codes(1))
    again = DiskCache(disk.directory, 1 << 20)
    state = again.get(key(1))
    assert state is not None
    assert state.key == codes(1).key
    assert state.arrays["codes"].dtype == np.int64


@pytest.mark.parametrize(
    "bad", ["", "x", "../../etc/passwd", "A" * 64, "a" * 63, "a" * 65, "a" * 64 + "\n", "a" * 63 + "\0", "/" + "a" * 63]
)
def test_only_digests_are_keys(disk: DiskCache, bad: str) -> None:
    for use in (disk.get, lambda bad: disk.put(bad, codes(1)), lambda bad: disk.compute(bad, lambda: codes(1))):
        with pytest.raises(ValueError, match="SHA-256"):
            use(bad)
    assert not disk.directory.exists()


def test_damaged_files_are_deleted_and_logged_once(disk: DiskCache, caplog: pytest.LogCaptureFixture) -> None:
    path = file_of(disk, 1)
    disk.directory.mkdir()
    for content in damaged(pack(key(1), codes(1)), 400):
        path.write_bytes(content)
        assert disk.get(key(1)) is None
        assert not path.exists()
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 1
    assert "damaged" in messages[0]
    assert key(1) not in messages[0]


def test_swapped_files_are_deleted(disk: DiskCache) -> None:
    for n in (1, 2):
        disk.put(key(n), codes(n))
    one, two = file_of(disk, 1), file_of(disk, 2)
    swap = one.read_bytes()
    one.write_bytes(two.read_bytes())
    two.write_bytes(swap)
    assert disk.get(key(1)) is None
    assert disk.get(key(2)) is None
    assert not list(disk.directory.glob("*.safetensors"))


@needs_posix
def test_links_are_not_followed(disk: DiskCache, tmp_path: Path) -> None:
    outside = tmp_path / "outside.safetensors"
    outside.write_bytes(pack(key(1), codes(1)))
    disk.directory.mkdir()
    file_of(disk, 1).symlink_to(outside)
    assert disk.get(key(1)) is None
    assert outside.exists()
    assert disk.put(key(1), codes(1))
    assert not file_of(disk, 1).is_symlink()


def test_disk_evicts_the_least_recently_used(tmp_path: Path) -> None:
    disk = DiskCache(tmp_path, 3 * 8192)
    for n in range(3):
        disk.put(key(n), codes(n))
        os.utime(file_of(disk, n), (1000 + n, 1000 + n))
    assert disk.get(key(0)) is not None
    disk.put(key(3), codes(3))
    assert [n for n in range(4) if disk.get(key(n)) is not None] == [0, 2, 3]
    assert not disk.put(key(4), codes(4, 1000))


def test_many_entries_stay_within_both_bounds(tmp_path: Path) -> None:
    small = codes(0, 1)
    disk = DiskCache(tmp_path, 1 << 20, max_files=64)
    for n in range(300):
        disk.compute(key(n), lambda: small)
        assert len(list(tmp_path.glob("*.safetensors"))) <= 64
    assert len(list(tmp_path.iterdir())) <= 64 + 257, "and a fixed number of lock files"
    tight = DiskCache(tmp_path, 20 * 8192)
    for n in range(100):
        tight.put(key(n), codes(n))
        assert sum(file.stat().st_size for file in tmp_path.glob("*.safetensors")) <= 20 * 8192


def test_foreign_files_stay_and_stale_unfinished_ones_are_deleted(tmp_path: Path) -> None:
    disk = DiskCache(tmp_path, 8192)
    foreign, old, new = (tmp_path / name for name in ("voice.safetensors", ".unfinished-old", ".unfinished-new"))
    for path in (foreign, old, new):
        path.write_bytes(b"x" * 9000)
    os.utime(old, (1, 1))
    disk.put(key(1), codes(1))
    disk.put(key(2), codes(2))
    assert foreign.exists()
    assert new.exists()
    assert not old.exists()


def test_computed_once_by_many_threads(disk: DiskCache) -> None:
    calls: list[int] = []

    def make() -> VoiceState:
        calls.append(1)
        time.sleep(0.05)
        return codes(1)

    with ThreadPoolExecutor(32) as pool:
        states = list(pool.map(lambda _: disk.compute(key(1), make), range(1000)))
    assert len(calls) == 1
    assert {state.key for state in states} == {codes(1).key}


def test_failure_to_compute_is_not_cached(disk: DiskCache) -> None:
    def fail() -> VoiceState:
        raise LookupError("no")

    with pytest.raises(LookupError):
        disk.compute(key(1), fail)
    assert disk.compute(key(1), lambda: codes(1)).key == codes(1).key


def test_held_lock_is_waited_for_no_longer_than_the_patience(tmp_path: Path) -> None:
    disk = DiskCache(tmp_path, 1 << 20, patience_s=0.1)
    with FileLock(tmp_path / f".lock-{key(1)[:2]}"):
        assert disk.compute(key(1), lambda: codes(1)).key == codes(1).key
    assert disk.get(key(1)) is not None


# -- a disk that fails


@pytest.fixture
def tmpfs(tmp_path: Path) -> Iterator[Path]:
    directory = tmp_path / "tmpfs"
    directory.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(directory)]
    if sys.platform != "linux" or os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("not allowed to mount a file system")
    yield directory
    subprocess.run(["umount", str(directory)], check=True)


def test_full_disk_is_logged_once_and_used_again_after(tmpfs: Path, caplog: pytest.LogCaptureFixture) -> None:
    disk = DiskCache(tmpfs / "cache", 1 << 30)
    for n in range(200):  # 4 MB
        assert disk.compute(key(n), lambda n=n: codes(n, 250)).key == codes(n, 250).key
    assert sum("is not used" in record.getMessage() for record in caplog.records) == 1
    assert not list(disk.directory.glob(".unfinished*"))
    assert not disk.put(key("x"), codes(1, 250))
    for path in list(disk.directory.glob("*.safetensors"))[:10]:
        path.unlink()
    assert disk.put(key("x"), codes(1, 250))
    assert disk.get(key("x")) is not None


def test_read_only_disk_is_read_and_not_written(tmpfs: Path) -> None:
    disk = DiskCache(tmpfs / "cache", 1 << 20)
    disk.put(key(1), codes(1))
    subprocess.run(["mount", "-o", "remount,ro", str(tmpfs)], check=True)
    assert disk.get(key(1)) is not None
    assert disk.compute(key(2), lambda: codes(2)).key == codes(2).key
    assert not disk.put(key(2), codes(2))
    subprocess.run(["mount", "-o", "remount,rw", str(tmpfs)], check=True)
    assert disk.put(key(2), codes(2))


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EROFS, errno.EMFILE, errno.EDQUOT])
@pytest.mark.parametrize("where", ["os.open", "os.scandir", "os.fsync", "pathlib.Path.replace", "pathlib.Path.mkdir"])
def test_failing_system_calls_do_not_raise(
    disk: DiskCache, monkeypatch: pytest.MonkeyPatch, where: str, code: int
) -> None:
    disk.put(key(1), codes(1))

    def fail(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(where, fail)
        for n in (1, 2):
            assert disk.compute(key(n), lambda n=n: codes(n)).key == codes(n).key
    assert disk.put(key(2), codes(2))
    assert disk.get(key(2)) is not None
    assert not list(disk.directory.glob(".unfinished*"))


@needs_posix
def test_nothing_is_deleted_without_file_descriptors(disk: DiskCache) -> None:
    import resource

    disk.put(key(1), codes(1))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    held: list[int] = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 256), hard))
    try:
        while True:
            try:
                held.append(os.open(os.devnull, os.O_RDONLY))
            except OSError:
                break
        assert disk.get(key(1)) is None
        assert disk.compute(key(2), lambda: codes(2)).key == codes(2).key
    finally:
        for descriptor in held:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert disk.get(key(1)) is not None, "a temporary failure to read must not delete files"
    assert disk.compute(key(2), lambda: codes(2)) is not None
    assert disk.get(key(2)) is not None


# -- many processes, dying

WORKER = """
import hashlib, os, random, sys, time
from pathlib import Path
import numpy as np
from saywell.types import VoiceState
from saywell.voices.cache import DiskCache

directory, log, seed, ops = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
disk = DiskCache(directory, int(sys.argv[5]))
(directory.parent / f"ready-{seed}").touch()
while not (directory.parent / "go").exists():
    time.sleep(0.001)
choose = random.Random(seed)
out = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
for _ in range(ops):
    n = choose.randrange(8)
    key = hashlib.sha256(str(n).encode()).hexdigest()
    def make():
        os.write(out, f"made {n}\\n".encode())
        time.sleep(float(sys.argv[6]))
        return VoiceState.of({"codes": np.full((10, 200), n, np.int64)})
    if choose.random() < 0.9:
        found = disk.compute(key, make)
    else:
        found = disk.get(key)
    if found is not None and (found.arrays["codes"].shape != (10, 200) or (found.arrays["codes"] != n).any()):
        os.write(out, b"WRONG\\n")
os.write(out, b"done\\n")
"""


def spawn(directory: Path, log: Path, seed: int, ops: int, nbytes: int, pause_s: float = 0) -> subprocess.Popen[bytes]:
    arguments = [str(argument) for argument in (directory, log, seed, ops, nbytes, pause_s)]
    return subprocess.Popen([sys.executable, "-c", WORKER, *arguments])


def test_processes_compute_once(tmp_path: Path) -> None:
    log = tmp_path / "log"
    workers = [spawn(tmp_path / "cache", log, seed, 100, 1 << 20, 0.1) for seed in range(8)]
    while len(list(tmp_path.glob("ready-*"))) < len(workers):  # all are ready
        time.sleep(0.01)
    (tmp_path / "go").touch()
    assert [worker.wait(60) for worker in workers] == [0] * 8
    lines = log.read_text().splitlines()
    assert lines.count("done") == 8
    assert sorted(line for line in lines if line.startswith("made")) == [f"made {n}" for n in range(8)]
    assert "WRONG" not in lines


@needs_posix
def test_killed_processes_leave_a_usable_cache(tmp_path: Path) -> None:
    """The bound is so tight that entries are evicted and made again all the time."""
    log, directory, choose = tmp_path / "log", tmp_path / "cache", random.Random(3)
    log.touch()
    (tmp_path / "go").touch()
    workers = [spawn(directory, log, seed, 100_000, 5 * 16384) for seed in range(8)]
    try:
        for seed in range(8, 28):
            grown, end = log.stat().st_size + 100, time.monotonic() + 30
            while log.stat().st_size < grown:  # they have made a dozen entries since the last one died
                assert time.monotonic() < end, "the workers make no progress"
                time.sleep(choose.random() / 50)
            victim = choose.randrange(8)
            workers[victim].send_signal(signal.SIGKILL)
            assert workers[victim].wait(10) == -signal.SIGKILL
            assert len(list(directory.glob("*.safetensors"))) <= 5
            workers[victim] = spawn(directory, log, seed, 100_000, 5 * 16384)
    finally:
        for worker in workers:
            worker.kill()
            worker.wait(10)
    assert "WRONG" not in log.read_text()
    assert spawn(directory, log, 1000, 100, 1 << 20).wait(60) == 0
    assert log.read_text().endswith("done\n")


def test_files_deleted_by_others_are_made_again(disk: DiskCache) -> None:
    stop = threading.Event()

    def delete() -> None:
        while not stop.is_set():
            for path in disk.directory.glob("*.safetensors"):
                path.unlink(missing_ok=True)

    thread = threading.Thread(target=delete)
    thread.start()
    try:
        for n in range(300):
            assert disk.compute(key(n % 8), lambda n=n: codes(n % 8)).key == codes(n % 8).key
    finally:
        stop.set()
        thread.join()


def test_trouble_that_returns_is_logged_again(
    disk: DiskCache, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    caplog.set_level(logging.WARNING, cache_module.__name__)
    for _ in range(2):
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", fail)
            for _ in range(5):
                assert not disk.put(key(1), codes(1))
        assert disk.put(key(1), codes(1))
    assert len(caplog.records) == 2
