"""What goes over the pipe between the engine and a speech process: msgpack, never pickle.

Every Speak is answered by Pieces and ended by exactly one of Piece(last=True), Stopped or Failed with its number.
"""

from __future__ import annotations

import msgspec


class KnownVoice(msgspec.Struct, frozen=True):
    """A voice. `source` is eSpeak NG's own name for it."""

    id: str
    source: str
    name: str
    language: str
    sample_rate: int
    description: str


class Speak(msgspec.Struct, tag=True, frozen=True):
    number: int
    text: str
    source: str
    sample_rate: int
    speed: float


class Stop(msgspec.Struct, tag=True, frozen=True):
    """Stop this utterance if it still runs; a number that is over already means nothing."""

    number: int


class ListVoices(msgspec.Struct, tag=True, frozen=True):
    pass


class Ready(msgspec.Struct, tag=True, frozen=True):
    """The first message of a child."""


class Voices(msgspec.Struct, tag=True, frozen=True):
    voices: list[KnownVoice]


class Piece(msgspec.Struct, tag=True, frozen=True):
    number: int
    pcm: bytes
    """int16, native byte order, mono."""
    last: bool


class Stopped(msgspec.Struct, tag=True, frozen=True):
    number: int


class Failed(msgspec.Struct, tag=True, frozen=True):
    number: int
    code: str
    """`SaywellError.code`."""
    message: str


Order = Speak | Stop | ListVoices
Answer = Ready | Voices | Piece | Stopped | Failed

encode = msgspec.msgpack.Encoder().encode
decode_order = msgspec.msgpack.Decoder(Order).decode
decode_answer = msgspec.msgpack.Decoder(Answer).decode
