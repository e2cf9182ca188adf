"""The examples of the README and the Makefile, run as written."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import soundfile

import saywell
from benchmarks.hearing import hear
from benchmarks.held_out import words
from paths import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_python_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    example, _ = blocks("python")
    exec(compile(example, "README.md", "exec"), {})
    samples, rate = soundfile.read("hello.wav")
    assert "hello" in words(hear(samples.astype("float32"), rate))


@pytest.mark.filterwarnings("ignore:no checkpoint was named:RuntimeWarning")
def test_compatibility_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    _, example = blocks("python")
    names: dict[str, Any] = {}
    exec(compile(example, "README.md", "exec"), names)
    assert "hello" in words(hear(names["audio"], names["sample_rate"]))
    assert names["engine"].config.num_threads == 1


def test_every_command_of_the_readme_exists() -> None:
    help_text = subprocess.run(
        [sys.executable, "-m", "saywell.cli", "--help"], capture_output=True, text=True, check=True
    ).stdout
    used = set(re.findall(r"^\$.*?\bsaywell (\w+)", "".join(blocks("console")), re.MULTILINE))
    assert used >= {"say", "serve", "voices"}
    for command in used:
        assert re.search(rf"^\s+{command}\s", help_text, re.MULTILINE), command


def test_demo_sentence_is_recognised(tmp_path: Path) -> None:
    sentence = re.search(r"^SENTENCE := (.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert sentence
    with saywell.open() as tts:
        audio = tts.say(sentence[1])
    heard = words(hear(audio.samples, audio.sample_rate))
    assert {"hello", "speaking", "from", "your", "machine", "made", "plan"} <= set(heard)


def test_public_names_exist() -> None:
    for name in saywell.__all__:
        assert getattr(saywell, name) is not None
    assert sorted(saywell.__all__) == dir(saywell)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = saywell.nothing


def test_import_loads_nothing_heavy() -> None:
    script = (
        "import sys, saywell; print(sorted({'numpy', 'torch', 'onnxruntime', 'fastapi', 'typer'} & set(sys.modules)))"
    )
    assert subprocess.check_output([sys.executable, "-c", script], text=True).strip() == "[]"
