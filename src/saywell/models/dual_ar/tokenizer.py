"""Text → token ids by tiktoken BPE, and the ids of control tokens."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta

from saywell.errors import BadCheckpoint, MissingDependency
from saywell.models.dual_ar.config import Config, read_bytes

if TYPE_CHECKING:
    import tiktoken

RANKS_FILE = "tokenizer.tiktoken"
SPECIALS_FILE = "special_tokens.json"
MAX_FILE_BYTES = 64 << 20

PATTERN = "|".join(
    (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)",
        r"\p{P}",
        r"[^\r\n\p{L}\p{N}]?\p{L}+",
        r"\p{N}",
        r" ?[^\s\p{L}\p{N}]+[\r\n]*",
        r"\s*[\r\n]+",
        r"\s+(\?!\S)",  # as published, escaped question mark included
        r"\s+",
    )
)
CONTROL = (
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|pad|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|phoneme_start|>",
    "<|phoneme_end|>",
    "<|tool_call_start|>",
    "<|tool_call_end|>",
    "<|text|>",
    "<|voice|>",
    "<|interleave|>",
    "<|audio_start|>",
    "<|audio_end|>",
    "<|audio|>",
)
IM_END = "<|im_end|>"


def special_names(codebook_size: int) -> tuple[str, ...]:
    """All special tokens in the order their ids follow the mergeable ranks."""
    return (*CONTROL, *(f"<|semantic:{code}|>" for code in range(codebook_size)))


@dataclass(frozen=True, slots=True, eq=False)
class Tokenizer:
    """Token ids. `encode` never yields the id of a control token, so text from users cannot contain one."""

    bpe: tiktoken.Encoding
    specials: dict[str, int]
    semantic_begin_id: int
    semantic_end_id: int
    im_end_id: int

    def encode(self, text: str) -> list[int]:
        """Ids of text as data: a control token's name in it, such as `<|im_end|>`, is ordinary characters."""
        return self.bpe.encode_ordinary(text)

    def control(self, name: str) -> int:
        """The id of a control token. Raises BadCheckpoint if the model lacks it."""
        try:
            return self.specials[name]
        except KeyError:
            raise BadCheckpoint(f"{SPECIALS_FILE} has no {name}") from None

    def as_written(self, name: str) -> list[int]:
        """Ids of a marker that is a special token in some checkpoints and plain text in others."""
        return [self.specials[name]] if name in self.specials else self.encode(name)

    @classmethod
    def read(cls, directory: Path, config: Config) -> Tokenizer:
        """From `tokenizer.tiktoken` and, if present, `special_tokens.json`. Raises BadCheckpoint naming the file,
        MissingDependency."""
        try:
            import tiktoken  # here, because planning imports this module and must not need it
        except ModuleNotFoundError as error:
            raise MissingDependency(
                f"a DualAR model needs {error.name}, which is not installed: pip install 'saywell[dualar]'"
            ) from error
        ranks = read_ranks(directory / RANKS_FILE)
        specials = _read_specials(directory / SPECIALS_FILE)
        if specials is None:
            specials = {name: len(ranks) + offset for offset, name in enumerate(special_names(config.codebook_size))}
        _check(ranks, specials, config)
        begin, end = _semantic(specials, config)
        im_end = config.im_end_id if config.im_end_id is not None else specials.get(IM_END)
        if im_end is None:
            raise BadCheckpoint(f"{SPECIALS_FILE} has no {IM_END}")
        bpe = tiktoken.Encoding("dual_ar", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens=specials)
        return cls(bpe, specials, begin, end, im_end)


def read_ranks(path: Path) -> dict[bytes, int]:
    """`base64(token) rank` lines → ranks by token. The token `=`, the empty string, is skipped."""
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(_text(path).splitlines(), start=1):
        fields = line.split()
        if not fields or fields[0] == "=":
            continue
        try:
            token, rank = base64.b64decode(fields[0], validate=True), int(fields[1])
        except (binascii.Error, ValueError, IndexError):
            raise BadCheckpoint(f"{path.name}: line {number} is not a base64 token and its rank") from None
        ranks[token] = rank
    if any(bytes([byte]) not in ranks for byte in range(256)) or len(set(ranks.values())) != len(ranks):
        raise BadCheckpoint(f"{path.name}: every single byte must be a token, and no rank may occur twice")
    return ranks


def _read_specials(path: Path) -> dict[str, int] | None:
    if not path.exists():
        return None
    try:
        return msgspec.json.decode(_text(path), type=dict[str, Annotated[int, Meta(ge=0)]])
    except (msgspec.DecodeError, RecursionError) as error:
        raise BadCheckpoint(f"{path.name} must map tokens to ids: {error}") from None


def _text(path: Path) -> str:
    try:
        return read_bytes(path, MAX_FILE_BYTES, BadCheckpoint).decode()
    except UnicodeDecodeError:
        raise BadCheckpoint(f"{path.name} is not UTF-8 text") from None


def _check(ranks: dict[bytes, int], specials: dict[str, int], config: Config) -> None:
    ids = list(specials.values())
    taken = set(ranks.values())
    if len(set(ids)) != len(ids) or not taken.isdisjoint(ids):
        raise BadCheckpoint(f"{SPECIALS_FILE}: two tokens share an id")
    top = max(*ids, *taken)
    if top >= config.vocab_size or min(taken) < 0:
        raise BadCheckpoint(f"{RANKS_FILE}, {SPECIALS_FILE}: id {top} is beyond vocab_size {config.vocab_size}")


def _semantic(specials: dict[str, int], config: Config) -> tuple[int, int]:
    """First and last semantic id. The ids must be consecutive, one for each entry of the codebook."""
    begin = config.semantic_begin_id
    if begin is None:
        begin = specials.get("<|semantic:0|>")
    if begin is None:
        raise BadCheckpoint(f"{SPECIALS_FILE} has no <|semantic:0|>")
    end = begin + config.codebook_size - 1
    consecutive = all(
        specials.get(f"<|semantic:{code}|>", begin + code) == begin + code for code in range(config.codebook_size)
    )
    if not consecutive or config.semantic_end_id not in (None, end):
        raise BadCheckpoint(
            f"{SPECIALS_FILE}: the ids of the semantic tokens are not {config.codebook_size} consecutive numbers"
        )
    return begin, end
