"""Settings: what wins, what is refused, and how the refusal helps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from paths import ROOT
from saywell.errors import PlanError
from saywell.settings import Settings, default_file, field_names, load_settings, parse

NONE = {"SAYWELL_CONFIG": ""}


def load(overrides: dict[str, Any] | None = None, **environ: str) -> Settings:
    return load_settings(overrides, environ=NONE | environ)


def test_empty_settings_decide_nothing() -> None:
    assert load() == Settings()
    assert load().overrides() == {}


def test_keyword_before_environment_before_file(tmp_path: Path) -> None:
    file = tmp_path / "saywell.toml"
    file.write_text('threads = 1\nmax_batch_size = 2\nvoice = "heart"\ncors_origins = ["https://a.example"]\n')
    environ = {"SAYWELL_CONFIG": str(file), "SAYWELL_THREADS": "3", "SAYWELL_MAX_BATCH_SIZE": "4"}
    found = load_settings({"threads": 5}, environ=environ)
    assert (found.threads, found.max_batch_size, found.voice) == (5, 4, "heart")
    assert [found.origin(name) for name in ("threads", "max_batch_size", "voice")] == [
        "keyword",
        "SAYWELL_MAX_BATCH_SIZE",
        str(file),
    ]
    assert found.cors_origins == ("https://a.example",)


def test_none_and_auto_mean_default() -> None:
    found = load({"threads": None}, SAYWELL_THREADS="3", SAYWELL_DEVICE="auto", SAYWELL_MAX_BATCH_SIZE="")
    assert (found.threads, found.device, found.max_batch_size) == (3, None, None)


def test_auto_overrules_the_file(tmp_path: Path) -> None:
    file = tmp_path / "x.toml"
    file.write_text("threads = 7\n")
    assert load_settings(file=file, environ={"SAYWELL_THREADS": "auto"}).threads is None


def test_a_long_wrong_value_is_abbreviated() -> None:
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
        ("threads", 0), ("threads", "2"), ("threads", True), ("max_batch_size", 1.5), ("device", "tpu"),
        ("port", 65536),
        ("timeout_s", 0), ("timeout_s", float("nan")), ("timeout_s", float("inf")), ("max_queue", -1), ("model", ""),
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
def test_every_field_rejects_wrong_types(name: str) -> None:
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


def test_unknown_names_are_rejected_with_a_suggestion(tmp_path: Path) -> None:
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


def test_kubernetes_service_links_are_ignored() -> None:
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


# -- variables of other programs


def test_other_variables_are_read_only_when_they_are_named() -> None:
    def number(text: str, origin: str) -> str | None:
        return None if text == "any" else text.removeprefix("n")

    variables = {"OLD": ("threads", number), "NEWER": ("threads", number)}
    environ = {**NONE, "OLD": "n2", "NEWER": " n3 "}
    assert load_settings(environ=environ) == Settings()
    found = load_settings(environ=environ, variables=variables)
    assert (found.threads, found.origin("threads")) == (3, "NEWER")
    assert load_settings(environ={**environ, "NEWER": "any"}, variables=variables).threads == 2
    assert load_settings(environ={**environ, "SAYWELL_THREADS": "4"}, variables=variables).threads == 4
    with pytest.raises(PlanError, match="environment variable NEWER"):
        load_settings(environ={**environ, "NEWER": "many"}, variables=variables)


def test_the_users_settings_file_has_a_standard_place() -> None:
    assert default_file().name == "saywell.toml"
    assert default_file().parent.name == "saywell"


def test_the_hub_token_is_never_shown() -> None:
    settings = load_settings({"hub_token": "hf_verysecret"}, environ={})
    assert "verysecret" not in repr(settings)
    with pytest.raises(PlanError) as caught:
        load_settings({"hub_token": ["hf_verysecret"]}, environ={})
    assert "verysecret" not in str(caught.value)
