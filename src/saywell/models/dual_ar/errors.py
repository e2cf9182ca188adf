"""Errors in the files of this family."""

from __future__ import annotations

from saywell.errors import InvalidRequest


class BadConfig(InvalidRequest):
    """An invalid configuration; the message names the file and the key."""

    status, code = 400, "bad_model_config"


class BadCheckpoint(InvalidRequest):
    """Weights or tokeniser files that are missing, damaged, hostile or of another model; the message names the file."""

    status, code = 400, "bad_checkpoint"
