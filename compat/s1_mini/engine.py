"""ProductionTTSEngine: the interface of the S1-Mini engine, on Saywell's."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from s1_mini.config import USUAL_MODE, USUAL_THRESHOLD_GB, EngineConfig, settle
from s1_mini.utils import empty_cache, get_vram_info
from saywell.engine.launch import TTS, start
from saywell.errors import SaywellError
from saywell.plan.memory import mb
from saywell.plan.plan import Plan
from saywell.types import Samples
from saywell_compat.lenient import warn

_log = logging.getLogger("s1_mini")


@dataclass(frozen=True)
class GenerationResponse:
    """The result of `generate`, which does not raise."""

    success: bool
    audio: tuple[int, Samples] | None = None
    """(sample rate in Hz, mono float32 samples within [-1, 1], shape [n])."""
    error: str | None = None
    finish_reason: str | None = None
    seed: int | None = None


@dataclass(frozen=True)
class Cleared:
    """The result of `clear_cache`; true if anything was cleared."""

    done: bool
    freed_bytes: int = 0
    """Bytes returned to the system by this process, without GPU memory."""

    def __bool__(self) -> bool:
        return self.done


class ModelManager:
    """The S1-Mini engine's model manager; here it only clears memory."""

    def __init__(self, config: EngineConfig) -> None:
        self._config = config
        self.speaker: TTS | None = None
        """The running engine."""

    def clear_cache(self, force: bool = False) -> Cleared:
        """Clear the engine's caches and return memory to the system, GPU memory included if the model runs on one.

        Without `force`: only if configured and the model's GPU is nearly full. Never raises.
        """
        speaker = self.speaker
        if speaker is None or not (force or self._short_of_vram(speaker.plan)):
            return Cleared(False)
        try:
            freed = speaker.engine.clear_caches().freed
        except SaywellError as error:
            _log.warning("the caches were not cleared: %s", error.message)
            return Cleared(False)
        gpu = empty_cache()
        _log.info("caches cleared; %s returned%s", mb(freed), ", and torch's cached GPU memory" if gpu else "")
        return Cleared(True, freed)

    def _short_of_vram(self, plan: Plan) -> bool:
        if self._config.vram_clear_on_oom_only or plan.device.kind != "cuda":
            return False
        return get_vram_info()["free_gb"] < self._config.vram_clear_threshold_gb


class ProductionTTSEngine:
    """Loads the model once and synthesises until stopped. A context manager: starts on enter, stops on exit."""

    def __init__(self, config: EngineConfig | None = None) -> None:
        self.config = config or EngineConfig()
        self.model_manager = ModelManager(self.config)
        self._speaker: TTS | None = None

    def start(self) -> None:
        """Plan, load and warm up. Raises SaywellError."""
        if self._speaker is None:
            decision = settle(self.config.overrides())
            for message in _without_effect(self.config, decision.plan):
                warn(message)
            self._speaker = self.model_manager.speaker = start(decision)

    def stop(self) -> None:
        """Release all resources. Idempotent."""
        speaker, self._speaker = self._speaker, None
        self.model_manager.speaker = None
        if speaker is not None:
            speaker.close()

    def __enter__(self) -> ProductionTTSEngine:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def generate(
        self,
        text: str,
        temperature: float | None = None,
        top_p: float | None = None,
        repetition_penalty: float | None = None,
        seed: int | None = None,
        **fields: Any,
    ) -> GenerationResponse:
        """Synthesise `text`. None: the configuration's default. `fields`: of a Request (voice, speed, …)."""
        if self._speaker is None:
            return GenerationResponse(success=False, error="the engine is not running; call start() first")
        config = self.config
        sampling = {
            "temperature": config.default_temperature if temperature is None else temperature,
            "top_p": config.default_top_p if top_p is None else top_p,
            "repetition_penalty": config.default_repetition_penalty
            if repetition_penalty is None
            else repetition_penalty,
            "seed": seed,
        }
        try:
            audio = self._speaker.say(text, **sampling, **fields)
        except SaywellError as error:
            return GenerationResponse(success=False, error=error.message)
        self.model_manager.clear_cache()
        return GenerationResponse(
            success=True,
            audio=(audio.sample_rate, audio.samples),
            finish_reason=audio.summary.finish_reason,
            seed=audio.summary.seed,
        )

    def health_check(self) -> dict[str, Any]:
        """Keys: healthy, models_loaded, device and vram (used_gb, total_gb)."""
        ready = self._speaker is not None and self._speaker.engine.health().state == "ready"
        vram = get_vram_info()
        return {
            "healthy": ready,
            "models_loaded": ready,
            "device": str(self._speaker.plan.device) if self._speaker else None,
            "vram": {"used_gb": vram["used_gb"], "total_gb": vram["total_gb"]},
        }


def _without_effect(config: EngineConfig, plan: Plan) -> list[str]:
    """Messages about changed options that have no effect under this plan."""
    messages = []
    if config.compile_mode != USUAL_MODE:
        messages.append(f"compile_mode={config.compile_mode} has no effect: the plan decides how graphs are captured")
    if not config.vram_clear_on_oom_only and plan.device.kind != "cuda":
        messages.append(
            f"vram_clear_on_oom_only=False has no effect: the model runs on {plan.device}, not on a GPU's VRAM"
        )
    if config.vram_clear_on_oom_only and config.vram_clear_threshold_gb != USUAL_THRESHOLD_GB:
        messages.append("vram_clear_threshold_gb has no effect as long as vram_clear_on_oom_only is True")
    return messages
