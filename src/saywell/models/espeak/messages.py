"""Messages between the engine and a speech process: MessagePack, never pickle.

A process sends Voices when it is ready. Each Speak is answered by Pieces and exactly one End.
"""

from __future__ import annotations

import msgspec


class KnownVoice(msgspec.Struct, frozen=True):
    id: str
    source: str
    """eSpeak NG's own name for it."""
    name: str
    language: str
    sample_rate: int


class Speak(msgspec.Struct, tag=True, frozen=True):
    text: str
    source: str
    sample_rate: int
    speed: float


class Read(msgspec.Struct, tag=True, frozen=True):
    """Answered by Phones, or by an End with an error."""

    texts: list[str]
    source: str


class Stop(msgspec.Struct, tag=True, frozen=True):
    """End the current utterance early. Ignored between utterances."""


class Voices(msgspec.Struct, tag=True, frozen=True):
    voices: list[KnownVoice]


class Piece(msgspec.Struct, tag=True, frozen=True):
    pcm: bytes
    """int16, native byte order, mono."""


class Phones(msgspec.Struct, tag=True, frozen=True):
    phones: list[str]
    """IPA of each text, diphthongs and affricates tied by `^`."""


class End(msgspec.Struct, tag=True, frozen=True):
    error: str = ""
    """`SaywellError.code`; empty: the utterance was spoken, or stopped."""
    message: str = ""


Order = Speak | Read | Stop
Answer = Voices | Piece | Phones | End

encode = msgspec.msgpack.Encoder().encode
decode_order = msgspec.msgpack.Decoder(Order).decode
decode_answer = msgspec.msgpack.Decoder(Answer).decode
