"""Wishes: what wins, what is refused, and how the refusal helps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from paths import ROOT
from saywell.errors import PlanError
from saywell.settings import OLD_NAMES, Settings, default_file, field_names, load_settings, parse

NONE = {"SAYWELL_CONFIG": ""}


YES, NO = ("true", "1", "yes", "on", "Yes", "ON"), ("false", "0", "no", "off", "No")


def load(overrides: dict[str, Any] | None = None, *, old_names: bool = False, **environ: str) -> Settings:
    return load_settings(overrides, environ=NONE | environ, old_names=old_names)


def test_nothing_asked_for_is_nothing_decided() -> None:
    assert load() == Settings()
    assert load().wishes() == {}


def test_keyword_before_environment_before_file(tmp_path: Path) -> None:
    file = tmp_path / "saywell.toml"
    file.write_text('threads = 1\nslots = 2\nvoice = "heart"\ncors_origins = ["https://a.example"]\n')
    environ = {"SAYWELL_CONFIG": str(file), "SAYWELL_THREADS": "3", "SAYWELL_SLOTS": "4"}
    found = load_settings({"threads": 5}, environ=environ)
    assert (found.threads, found.slots, found.voice) == (5, 4, "heart")
    assert [found.origin(name) for name in ("threads", "slots", "voice")] == ["keyword", "SAYWELL_SLOTS", str(file)]
    assert found.cors_origins == ("https://a.example",)


def test_none_and_auto_leave_the_choice_open() -> None:
    found = load({"threads": None}, SAYWELL_THREADS="3", SAYWELL_DEVICE="auto", SAYWELL_SLOTS="")
    assert (found.threads, found.device, found.slots) == (3, None, None)


def test_auto_overrules_the_file(tmp_path: Path) -> None:
    file = tmp_path / "x.toml"
    file.write_text("threads = 7\n")
    assert load_settings(file=file, environ={"SAYWELL_THREADS": "auto"}).threads is None


def test_a_long_wrong_value_is_shown_in_brief() -> None:
    with pytest.raises(PlanError, match="CPU numbers") as error:
        load_settings(environ={"SAYWELL_AFFINITY": "0-99999", "SAYWELL_CONFIG": ""})
    assert len(error.value.message) < 300


def test_text_becomes_the_right_type() -> None:
    found = load(
        SAYWELL_THREADS="3", SAYWELL_TIMEOUT_S="2.5", SAYWELL_ALLOW_PUBLIC="Yes", SAYWELL_LOG_JSON="off",
        SAYWELL_API_KEYS="first-key-1, second-key", SAYWELL_DATA_DIR="~/x", SAYWELL_LOG_LEVEL="INFO",
    )  # fmt: skip
    assert (found.threads, found.timeout_s, found.allow_public, found.log_json) == (3, 2.5, True, False)
    assert found.api_keys == ("first-key-1", "second-key")
    assert found.data_dir == Path("~/x").expanduser()
    assert found.log_level == "info"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("threads", 0), ("threads", "2"), ("threads", True), ("slots", 1.5), ("device", "tpu"), ("port", 65536),
        ("timeout_s", 0), ("timeout_s", float("nan")), ("timeout_s", float("inf")), ("queue", -1), ("model", ""),
        ("model_path", 5), ("allow_public", 1), ("cors_origins", "x"), ("chunk_chars", 3), ("api_keys", ("short",)),
        ("affinity", ()), ("affinity", (-1,)), ("first_frames", 0), ("cache_mb", -1), ("thermal", 1),
    ],
)  # fmt: skip
def test_wrong_values_name_the_field_and_the_way_out(name: str, value: object) -> None:
    for make in (lambda: load({name: value}), lambda: Settings(**{name: value})):  # type: ignore[arg-type]
        with pytest.raises(PlanError, match=f"'{name}' .keyword. must be .*leave it out") as error:
            make()
        assert error.value.param == name


@pytest.mark.parametrize("name", field_names())
def test_every_field_refuses_what_it_cannot_be(name: str) -> None:
    with pytest.raises(PlanError, match=f"'{name}' .keyword. must be .*leave it out") as error:
        Settings(**{name: object()})
    assert error.value.param == name


@pytest.mark.parametrize(("variable", "text"), [("SAYWELL_THREADS", "two"), ("SAYWELL_LOG_JSON", "maybe")])
def test_wrong_text_names_its_variable(variable: str, text: str) -> None:
    with pytest.raises(PlanError, match=f"{variable}.*not '{text}'") as error:
        load(**{variable: text})
    assert error.value.param == variable.removeprefix("SAYWELL_").lower()


def test_cpu_numbers_are_read_as_the_kernel_writes_them() -> None:
    assert load(SAYWELL_AFFINITY="0-3, 8").affinity == (0, 1, 2, 3, 8)
    assert load({"affinity": (2, 0)}).affinity == (2, 0)
    for text in ("0;2", "3-", "fast", "1-2-3"):
        with pytest.raises(PlanError, match=r"CPU numbers, as 0,2 or 0-3"):
            load(SAYWELL_AFFINITY=text)


def test_unknown_names_are_refused_with_a_guess(tmp_path: Path) -> None:
    file = tmp_path / "x.toml"
    file.write_text("treads = 2\n")
    for make in (
        lambda: load({"treads": 2}),
        lambda: load(SAYWELL_TREADS="2"),
        lambda: load_settings(file=file, environ={}),
        lambda: parse("treads", "2", "the command line"),
    ):
        with pytest.raises(PlanError, match="did you mean 'threads'"):
            make()
    with pytest.raises(PlanError, match=r"there is model, model_path"):
        load({"xyzzy": 1})


@pytest.mark.parametrize("text", ["threads = ", "\x00", "threads = 'two'"])
def test_a_broken_file_is_named(tmp_path: Path, text: str) -> None:
    file = tmp_path / "broken.toml"
    file.write_text(text)
    with pytest.raises(PlanError, match=r"broken\.toml"):
        load_settings(file=file, environ={})


def test_a_missing_file_that_was_asked_for_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="cannot read the settings file"):
        load_settings(environ={"SAYWELL_CONFIG": str(tmp_path / "none.toml")})


def test_keys_are_never_shown() -> None:
    secret = "very-secret-key"
    found = load(SAYWELL_API_KEYS=secret)
    assert found.api_keys == (secret,)
    assert secret not in repr(found)
    with pytest.raises(PlanError) as error:
        load({"api_keys": ["tiny12"]})
    assert "tiny12" not in str(error.value)


def test_kubernetes_service_links_are_not_wishes() -> None:
    linked = {
        "SAYWELL_SERVICE_HOST": "10.0.0.1", "SAYWELL_SERVICE_PORT": "80", "SAYWELL_SERVICE_PORT_HTTP": "80",
        "SAYWELL_PORT": "tcp://10.0.0.1:80", "SAYWELL_PORT_80_TCP_ADDR": "10.0.0.1",
    }  # fmt: skip
    assert load(**linked) == Settings()


def test_every_field_has_a_docstring_and_an_environment_name() -> None:
    source = ROOT / "src/saywell/settings.py"
    lines = source.read_text().splitlines()
    for name in field_names():
        line = next(index for index, text in enumerate(lines) if text.startswith(f"    {name}: "))
        assert lines[line + 1].startswith('    """'), name
        assert load(**{f"SAYWELL_{name.upper()}": "auto"}) == Settings()


# -- names of earlier programs


def test_old_names_are_read_only_when_asked() -> None:
    assert load(DEVICE="cpu", S1_MINI_REQUEST_TIMEOUT="60") == Settings()
    found = load(old_names=True, DEVICE="cpu", S1_MINI_REQUEST_TIMEOUT="60")
    assert (found.device, found.timeout_s) == ("cpu", 60.0)
    assert found.origin("timeout_s") == "S1_MINI_REQUEST_TIMEOUT"


@pytest.mark.parametrize(
    ("variable", "text", "field", "value"),
    [
        ("S1_MINI_CHECKPOINT_PATH", "checkpoints/x", "model_path", Path("checkpoints/x")),
        ("S1_MINI_DEVICE", "cuda", "device", "cuda"),
        ("S1_MINI_PRECISION", "float16", "precision", "fp16"),
        ("S1_MINI_PRECISION", "bfloat16", "precision", "bf16"),
        ("S1_MINI_COMPILE", "false", "compile", "disabled"),
        ("S1_MINI_COMPILE", "true", "compile", None),
        ("S1_MINI_COMPILE_BACKEND", "eager", "compile", "eager"),
        ("S1_MINI_COMPILE_BACKEND", "auto", "compile", None),
        ("MODEL_DIR", "m", "model_path", Path("m")),
        ("DEVICE", "auto", "device", None),
        ("MIXED_PRECISION", "fp16", "precision", "fp16"),
        ("ENABLE_TORCH_COMPILE", "True", "compile", "inductor"),
        ("USE_ONNX", "true", "executor", "onnx"),
        *(("S1_MINI_COMPILE", yes, "compile", None) for yes in YES),
        *(("S1_MINI_COMPILE", no, "compile", "disabled") for no in NO),
        *(("ENABLE_TORCH_COMPILE", yes, "compile", "inductor") for yes in YES),
        *(("ENABLE_TORCH_COMPILE", no, "compile", "disabled") for no in NO),
        *(("USE_ONNX", yes, "executor", "onnx") for yes in YES),
        *(("USE_ONNX", no, "executor", "torch") for no in NO),
        ("USE_ONNX", "auto", "executor", None),
        ("MIXED_PRECISION", "no", "precision", "fp32"),
        ("MIXED_PRECISION", "yes", "precision", None),
        ("S1_MINI_DEVICE", "cuda:0", "device", "cuda"),
        ("DEVICE", "CUDA:0", "device", "cuda"),
        ("CACHE_LIMIT", "10", "cache_entries", 10),
        ("MAX_SEQ_LEN", "1024", "max_frames", 1024),
    ],
)
def test_old_names(variable: str, text: str, field: str, value: object) -> None:
    assert getattr(load(old_names=True, **{variable: text}), field) == value


@pytest.mark.parametrize("variable", ["S1_MINI_COMPILE", "ENABLE_TORCH_COMPILE", "USE_ONNX"])
def test_what_is_neither_yes_nor_no_gets_a_sentence(variable: str) -> None:
    with pytest.raises(PlanError, match=f"{variable} must be true, 1, yes, on or false, 0, no, off, not 'maybe'"):
        load(old_names=True, **{variable: "maybe"})


def test_the_number_of_a_gpu_is_said_to_change_nothing(caplog: pytest.LogCaptureFixture) -> None:
    assert load(old_names=True, DEVICE="cuda:1").device == "cuda"
    assert "DEVICE=cuda:1: which of several GPUs is used is decided by their memory" in caplog.text


def test_switching_compilation_off_wins_over_its_backend() -> None:
    assert load(old_names=True, S1_MINI_COMPILE="false", S1_MINI_COMPILE_BACKEND="inductor").compile == "disabled"
    assert load(old_names=True, S1_MINI_COMPILE="true", S1_MINI_COMPILE_BACKEND="eager").compile == "eager"


def test_new_names_win_over_old_ones() -> None:
    assert load(old_names=True, DEVICE="cuda", SAYWELL_DEVICE="cpu").device == "cpu"


def test_old_names_map_to_fields_there_are() -> None:
    assert {field for field, _ in OLD_NAMES.values()} <= set(field_names())
    with pytest.raises(PlanError, match="S1_MINI_DEVICE"):
        load(old_names=True, S1_MINI_DEVICE="tpu")


def test_the_users_own_file_has_a_place() -> None:
    assert default_file().name == "saywell.toml"
    assert default_file().parent.name == "saywell"


def test_the_hub_token_is_never_shown() -> None:
    settings = load_settings({"hub_token": "hf_verysecret"}, environ={})
    assert "verysecret" not in repr(settings)
    with pytest.raises(PlanError) as caught:
        load_settings({"hub_token": ["hf_verysecret"]}, environ={})
    assert "verysecret" not in str(caught.value)
