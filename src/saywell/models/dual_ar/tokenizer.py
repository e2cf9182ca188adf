"""Text → token ids: tiktoken BPE, and the control tokens only this package may write."""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from saywell.errors import MissingDependency
from saywell.files import Damaged, read_plain
from saywell.models.dual_ar.config import Config
from saywell.models.dual_ar.errors import BadCheckpoint

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
    """Ids of text and of control tokens. User text goes through `encode` only, which cannot yield a control id."""

    bpe: tiktoken.Encoding
    specials: dict[str, int]
    semantic_begin_id: int
    semantic_end_id: int
    im_end_id: int

    def encode(self, text: str) -> list[int]:
        """Ids of text as data: `<|im_end|>` in it is seven punctuation marks and two words."""
        return self.bpe.encode_ordinary(text)

    def control(self, name: str) -> int:
        """The id of a control token. Raises BadCheckpoint if the model has none of that name."""
        found = self.specials.get(name)
        if found is None:
            raise BadCheckpoint(f"{SPECIALS_FILE} has no {name}")
        return found

    def as_written(self, name: str) -> list[int]:
        """A marker that is a special token in some checkpoints and plain text in others."""
        return [self.specials[name]] if name in self.specials else self.encode(name)

    @classmethod
    def read(cls, directory: Path, config: Config) -> Tokenizer:
        """From `tokenizer.tiktoken` and, if there, `special_tokens.json`. Raises BadCheckpoint naming the file,
        MissingDependency."""
        try:
            import tiktoken  # here, because planning reads this module and must not need it
        except ModuleNotFoundError as error:
            raise MissingDependency(
                f"a DualAR model needs {error.name}, which is not installed: pip install 'saywell[dualar]'"
            ) from error
        ranks = read_ranks(directory / RANKS_FILE)
        specials = _read_specials(directory / SPECIALS_FILE)
        if specials is None:
            specials = {name: len(ranks) + each for each, name in enumerate(special_names(config.codebook_size))}
        _check(ranks, specials, config)
        begin, end = _semantic(specials, config)
        im_end = config.im_end_id if config.im_end_id is not None else specials.get(IM_END)
        if im_end is None:
            raise BadCheckpoint(f"{SPECIALS_FILE} has no {IM_END}")
        bpe = tiktoken.Encoding("dual_ar", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens=specials)
        return cls(bpe, specials, begin, end, im_end)


def read_ranks(path: Path) -> dict[bytes, int]:
    """`base64(token) rank` lines → ranks by token; the token `=` is the empty string and is skipped."""
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
    missing = [each for each in range(256) if bytes([each]) not in ranks]
    if missing or len(set(ranks.values())) != len(ranks):
        raise BadCheckpoint(f"{path.name}: every single byte must be a token, and every rank be there once")
    return ranks


def _read_specials(path: Path) -> dict[str, int] | None:
    if not path.exists():
        return None
    try:
        raw: Any = json.loads(_text(path))
    except (json.JSONDecodeError, RecursionError) as error:
        raise BadCheckpoint(f"{path.name} is not JSON: {error}") from None
    if not isinstance(raw, dict) or not all(type(each) is int and each >= 0 for each in raw.values()):
        raise BadCheckpoint(f"{path.name} must map tokens to ids")
    return raw


def _text(path: Path) -> str:
    try:
        return read_plain(path, MAX_FILE_BYTES, links=True).decode()
    except FileNotFoundError:
        raise BadCheckpoint(f"{path.name} is missing; a checkpoint directory must hold it") from None
    except Damaged:
        raise BadCheckpoint(f"{path.name} is no regular file, or larger than any tokeniser file is") from None
    except UnicodeDecodeError:
        raise BadCheckpoint(f"{path.name} is not text") from None


def _check(ranks: dict[bytes, int], specials: dict[str, int], config: Config) -> None:
    ids = list(specials.values())
    taken = set(ranks.values())
    if len(set(ids)) != len(ids) or not taken.isdisjoint(ids):
        raise BadCheckpoint(f"{SPECIALS_FILE}: two tokens share an id")
    top = max(*ids, *taken)
    if top >= config.vocab_size or min(taken) < 0:
        raise BadCheckpoint(f"{RANKS_FILE}, {SPECIALS_FILE}: id {top} is beyond vocab_size {config.vocab_size}")


def _semantic(specials: dict[str, int], config: Config) -> tuple[int, int]:
    """First and last semantic id, which must be a run of one id for each entry of the codebook."""
    begin = config.semantic_begin_id
    if begin is None:
        begin = specials.get("<|semantic:0|>")
    if begin is None:
        raise BadCheckpoint(f"{SPECIALS_FILE} has no <|semantic:0|>")
    end = begin + config.codebook_size - 1
    wrong = [
        code
        for code in range(config.codebook_size)
        if specials.get(f"<|semantic:{code}|>", begin + code) != begin + code
    ]
    if wrong or config.semantic_end_id not in (None, end):
        raise BadCheckpoint(f"{SPECIALS_FILE}: the semantic tokens are not one run of {config.codebook_size} ids")
    return begin, end
