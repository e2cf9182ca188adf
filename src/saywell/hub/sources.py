"""Catalogue of published weights: repositories and licences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from saywell.errors import UnknownModel


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One published checkpoint."""

    repo: str
    revision: str
    """Branch, tag or commit of the first download; later ones stay at the commit it resolved to."""
    licence: str
    terms: str
    """Summary of the licence in a sentence."""
    files: tuple[str, ...]
    """Paths in the repository; downloaded into one directory, without the repository's folders."""
    optional: tuple[str, ...] = ()
    digests: Mapping[str, str] = field(default_factory=dict)
    """SHA-256 of files of which only one version is supported."""
    free: bool = False
    """Whether the licence has no conditions for use, so that it need not be accepted."""
    next: str = "saywell convert {path}"
    """The command to run after the download."""
    family: str = "dual_ar"
    """The model family that uses the weights."""
    as_is: bool = False
    """Whether the family runs the files as published, without conversion."""

    @property
    def url(self) -> str:
        return f"https://huggingface.co/{self.repo}"


def _sibling(name: str, file: str, sha256: str) -> Source:
    """Another voice of the default voice's family."""
    return Source(
        repo="maureesewilliams/hibari",
        revision="main",
        licence="Apache-2.0",
        terms="Free for any use; redistribution keeps the licence and the notice.",
        files=(file,),
        digests={file: sha256},
        free=True,
        family="hibari",
        as_is=True,
        next=f'saywell say -v {name} "Hello there."',
    )


SOURCES: Mapping[str, Source] = {
    "emma": _sibling(
        "emma", "voices/bf_emma.int8.onnx", "f709f0488ee63b583a22189a955aaf4257b9806dd330be3490661e53af0a89c1"
    ),
    "fenrir": _sibling(
        "fenrir", "voices/am_fenrir_v2.int8.onnx", "f59fbd87908c91f827bc21b1b89443757b9a8580db9eee20aa948deb731321f4"
    ),
    "fable": _sibling(
        "fable", "voices/bm_fable.int8.onnx", "c28529302f2d27cd12f62625c24425888c4e3c2675583100ec530259136b8bc6"
    ),
    "kore": _sibling(
        "kore", "voices/af_kore.int8.onnx", "346885752673e45d42f9864c9e2432094bc4b6385df060d4b83273da764d2fa9"
    ),
    "s1-mini": Source(
        repo="fishaudio/openaudio-s1-mini",
        revision="main",
        licence="CC-BY-NC-SA-4.0",
        terms="For non-commercial use only, with attribution; works derived from the weights under the same terms.",
        files=("config.json", "model.pth", "codec.pth", "tokenizer.tiktoken"),
        optional=("special_tokens.json", "LICENSE", "LICENSE.md", "README.md"),
    ),
}


def source(name: str) -> Source:
    """A published checkpoint by name. Raises UnknownModel that lists the names."""
    if name not in SOURCES:
        raise UnknownModel(f"no weights to pull for {name!r}; available: {', '.join(sorted(SOURCES))}", param="model")
    return SOURCES[name]
