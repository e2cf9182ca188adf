"""Admission control: validate a request before it is queued."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import replace

from saywell.engine.stream import Window
from saywell.errors import InvalidRequest, TooManyRequests, UnknownVoice
from saywell.machine.monitor import available_memory
from saywell.plan.memory import check, estimate
from saywell.plan.plan import Plan
from saywell.text.check import check as check_text
from saywell.text.lexicon import own_entries
from saywell.types import ModelSpec, Request, Voice
from saywell.voices.names import parse_blend, resolve_voice

_TAG = re.compile(r"[A-Za-z]{2,8}([-_][A-Za-z0-9]{1,8})*")
_LOOK_S = 0.1
_FRESH = 8
"""One in this many places is reserved for requests without any audio yet."""
_ANY = "und"
"""Language tag of a voice that speaks every language of its model."""


class Admission:
    """Checks a request against the plan and the requests in flight, which the caller passes."""

    def __init__(self, spec: ModelSpec, plan: Plan, voices: tuple[Voice, ...]) -> None:
        self._spec = spec
        self._plan = plan
        self._all = voices
        self._voices = {voice.id.lower(): voice for voice in voices}
        self._default = voices[0] if voices else None
        self._looked, self._free = -_LOOK_S, 0

    def voice(self, request: Request) -> Voice:
        """The voice a request asks for; the default if it names none. Raises UnknownVoice."""
        if request.voice is None:
            if self._default is None:
                raise UnknownVoice("this model has no built-in voice; give a reference", param="voice")
            return self._default
        wanted = resolve_voice(request.voice, self._all, self._default.id if self._default else None)
        found = self._voices.get((wanted or request.voice).lower()) or self._blend(request.voice)
        if found is None:
            some = ", ".join(list(self._voices)[:8])
            more = f" and {len(self._voices) - 8} more (see /v1/audio/voices)" if len(self._voices) > 8 else ""
            raise UnknownVoice(f"there is no such voice; this model has {some}{more}", param="voice")
        return found

    def _blend(self, name: str) -> Voice | None:
        """A voice made of several, with the language of the first. Raises UnknownVoice naming one that is not there."""
        parts = parse_blend(name) if self._spec.blends else ()
        if not parts:
            return None
        if missing := [part for part, _ in parts if part not in self._voices]:
            raise UnknownVoice(f"this blend has a voice that is not there: {missing[0]}", param="voice")
        return replace(self._voices[parts[0][0]], id=name.lower().replace(" ", ""), name=name)

    def check(
        self,
        request: Request,
        others: Mapping[str, Window],
        seconds_each: float,
        *,
        loaded: bool = True,
        more: bool = False,
    ) -> Voice:
        """Raise a SaywellError if the request must be refused; the cheapest checks come first.

        `others`: the requests in flight by id, with their windows. Those far ahead of their readers need no work now
        and do not count; a few extra places are kept for requests without audio, even if all others are taken.
        `seconds_each`: recent average duration of a request. `more`: its text is fed; memory is estimated for one
        sequence.
        """
        plan = self._plan
        due = sum(window.wants_more() for window in others.values())
        fresh = sum(not window.begun and window.wants_more() for window in others.values())
        if request.id in others:
            raise InvalidRequest("a request of this id is not over yet; give each request its own id", param="id")
        check_request(request, self._spec, plan, more=more)
        voice = self.voice(request)
        check_language(request.language, voice)
        places = plan.max_batch_size + plan.max_queue
        if due >= places and (fresh >= max(1, places // _FRESH) or due >= places + places // 2):
            wait = max(1.0, seconds_each * plan.max_queue / plan.max_batch_size)
            raise TooManyRequests(
                f"{due} requests are running or waiting, which is the limit; try again in {wait:.0f} s",
                retry_after=wait,
            )
        if plan.check_memory:
            check(estimate(plan, self._spec, len(request.text)), self._available(), loaded=loaded)
        return voice

    def _available(self) -> int:
        """Free bytes on the device, at most `_LOOK_S` old: reading them takes as long as reading a sentence."""
        now = time.monotonic()
        if now - self._looked >= _LOOK_S:
            self._looked, self._free = now, available_memory(device=self._plan.device)
        return self._free


def check_request(request: Request, spec: ModelSpec, plan: Plan, *, more: bool = False) -> None:
    """Raise a SaywellError for a request that is invalid under this plan. `more`: its text is fed, see `submit`."""
    if not more:
        check_text(request.text, plan.max_text_chars)
    elif request.text:
        raise InvalidRequest("text that is fed must not be in the request as well; pass it to feed()", param="text")
    if request.speed != 1.0 and "speed" not in spec.options:
        raise InvalidRequest(f"{spec.name} speaks at its own speed only; leave speed out", param="speed")
    for name, value in {"speed": request.speed, **request.options}.items():
        if name in spec.options:
            spec.options[name].check(name, value, spec.name)
        elif name in request.options:
            names = ", ".join(spec.options) or "none"
            raise InvalidRequest(f"{spec.name} has no option {name!r:.80}; it has {names}", param="options")
    if request.reference is not None and not spec.clones:
        raise InvalidRequest(f"{spec.name} cannot speak like a recording; name a voice", param="reference")
    if request.lexicon and request.raw:
        raise InvalidRequest("a raw text is spoken as it is; leave raw or lexicon out", param="lexicon")
    if any(entry.phones for entry in own_entries(request.lexicon)) and not spec.phones:
        message = f"{spec.name} takes no phones; give the reading in words, or use a model that takes phones"
        raise InvalidRequest(message, param="lexicon")
    if request.timestamps and not spec.timestamps:
        message = f"{spec.name} has no word timestamps; leave timestamps out, or use a model that has them"
        raise InvalidRequest(message, param="timestamps")
    if request.max_frames is not None and request.max_frames > plan.max_frames:
        raise InvalidRequest(f"max_frames is at most {plan.max_frames} under this plan", param="max_frames")
    if request.language is not None and not _TAG.fullmatch(request.language):
        raise InvalidRequest("language takes a BCP-47 tag such as en, en-GB or de", param="language")


def check_language(tag: str | None, voice: Voice) -> None:
    """Raise InvalidRequest for a language the voice does not speak. Only the primary tag counts: en of en-GB."""
    if tag is None or voice.language == _ANY or _primary(tag) in (_primary(voice.language), _ANY):
        return
    raise InvalidRequest(
        f"the voice {voice.id} speaks {voice.language}, not the requested language; choose another voice "
        "(`saywell voices`, GET /v1/audio/voices; the voices espeak:LANGUAGE of the model espeak speak about a hundred "
        "languages where eSpeak NG is installed) or leave language out",
        param="language",
    )


def _primary(tag: str) -> str:
    """Without script, region or variant."""
    return re.split("[-_]", tag.lower(), maxsplit=1)[0]
