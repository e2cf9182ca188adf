"""Flite's own knowledge of English words, read out of its libraries into the three files the front end of `wren` uses.

    python training/letters/extract.py [--to src/saywell/models/wren/english]

    lexicon.txt    a word a line: how it is pronounced where the letters alone would mislead
    letters.npz    the decision trees that pronounce every other word, letter by letter
    sentence.json  what a word's neighbours say about it: kind of word, part of speech; which spellings are words at all

Needs the Debian packages `flite` and `wamerican`, whose permissive licences lie beside the files; seconds.
Layouts and names: flite 2.2, include/cst_lexicon.h, cst_lts.h, cst_cart.h, cst_val.h.
"""

from __future__ import annotations

import argparse
import ctypes as c
import json
import string
import struct
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np

from saywell.models.builtin.libraries import find
from saywell.models.wren.lexicon import ACRONYM
from saywell.models.wren.phones import VOWELS

CORRECTIONS = Path(__file__).with_name("corrections.txt")
WORDS = Path("/usr/share/dict/american-english")
ADDED = ("_a", "'s", "'ll", "'ve", "'d", "im", "doesnt", "youll", "in", "to", "havent", "email")
"""Words the lexicon holds beside its data, and the endings it pronounces by their letters."""
PARTS = "nvjr"
"""Noun, verb, adjective, adverb, as the tree for parts of speech has them."""
LEAF = 255
RULE = struct.Struct("<BBHH")
"""A node of the letter trees."""
LONGEST_CLUSTER = 5
"""Consonants in a row at the head or tail of an English word: angstschweiss, borscht."""
CONSONANTS = "".join(letter for letter in string.ascii_lowercase if letter not in "aeiouy")


class Node(c.Structure):
    _fields_ = (("feature", c.c_ubyte), ("op", c.c_ubyte), ("no", c.c_ushort), ("value", c.c_void_p))


class Tree(c.Structure):
    _fields_ = (("nodes", c.POINTER(Node)), ("features", c.POINTER(c.c_char_p)))


def library(stem: str) -> c.CDLL:
    path = find(stem)
    if path is None:
        raise SystemExit(f"lib{stem} is missing: apt install flite")
    return c.CDLL(path, mode=c.RTLD_GLOBAL)


def symbol(phone: str) -> str:
    """As the acoustic model knows it: every vowel bears a 0 or a 1."""
    return phone + "0" if phone in VOWELS else phone


class Flite:
    """The three libraries, and their values as Python's own."""

    def __init__(self) -> None:
        self.engine, self.english, self.words = map(library, ("flite", "flite_usenglish", "flite_cmulex"))
        engine = self.engine
        for name in ("val_car", "val_cdr", "lex_lookup"):
            getattr(engine, name).restype = c.c_void_p
        engine.val_string.restype = c.c_char_p
        for name in ("val_car", "val_cdr", "val_string", "delete_val"):
            getattr(engine, name).argtypes = (c.c_void_p,)
        engine.lex_lookup.argtypes = (c.c_void_p, c.c_char_p, c.c_char_p, c.c_void_p)
        self.words.cmu_lex_init.restype = c.c_void_p
        self._lexicon = self.words.cmu_lex_init()

    def text(self, value: int) -> str:
        return str(self.engine.val_string(value).decode("ascii"))

    def pronounce(self, word: str, kind: str = "0") -> list[str]:
        """Phones of a word: by the lexicon, else by its letters."""
        head = at = self.engine.lex_lookup(self._lexicon, word.encode("ascii"), kind.encode("ascii"), None)
        phones = []
        while at:
            phones.append(symbol(self.text(self.engine.val_car(at))))
            at = self.engine.val_cdr(at)
        self.engine.delete_val(head)
        return phones

    def pronounceable(self, word: str) -> bool:
        return bool(self.english.us_aswd(word.encode("ascii")))


def strings(lib: c.CDLL, name: str, most: int = 256) -> list[str]:
    """A null-ended table of strings; the first may be missing."""
    table = (c.c_char_p * most).in_dll(lib, name)
    size = next((at for at in range(1, most) if table[at] is None), most)
    return [(table[at] or b"").decode("latin1") for at in range(size)]


def words(flite: Flite) -> Iterator[str]:
    """The words of the lexicon. An entry: phones backwards, 255, part of speech and letters, 0; indices of n-grams."""
    size = c.c_int.in_dll(flite.words, "cmu_lex_num_bytes").value
    data = bytes((c.c_ubyte * size).in_dll(flite.words, "cmu_lex_data"))
    letters = strings(flite.words, "cmu_lex_entries_huff_table")
    for entry in data.split(b"\xff")[1:]:
        spelled = "".join(letters[index] for index in entry.partition(b"\0")[0])
        if spelled[1:].isalpha() and spelled.isascii():
            yield spelled[1:]


def lexicon(flite: Flite) -> str:
    """`word<TAB>phones`, with `<TAB>part:phones` for each part of speech that sounds different; sorted."""
    corrected = dict(line.split("\t") for line in CORRECTIONS.read_text().splitlines() if not line.startswith("#"))
    lines = ["\t".join(correction) for correction in corrected.items()]
    for word in {*words(flite), *ADDED}.difference(corrected):
        default, *others = (" ".join(flite.pronounce(word, part)) for part in "0" + PARTS)
        kinds = (f"{part}:{phones}" for part, phones in zip(PARTS, others, strict=True) if phones != default)
        lines.append("\t".join([word, default, *kinds]))
    return "\n".join(["", *sorted(lines), ""])


def short_words() -> list[str]:
    """Words that an acronym may look like. The lexicon cannot tell: it leaves out what its letters pronounce well."""
    found = set(WORDS.read_text().split())
    return sorted(
        word for word in found if len(word) <= ACRONYM and word.isalpha() and word.islower() and word.isascii()
    )


def letters(flite: Flite) -> dict[str, np.ndarray]:
    """Nodes [n, 4]: feature (0-3 letters before, 4-7 after, 255: a leaf), letter or phone, next if equal, if not."""
    starts = np.array((c.c_ushort * 26).in_dll(flite.words, "cmu_lts_letter_index"), np.uint16)
    phones = strings(flite.words, "cmu_lts_phone_table")
    model = c.addressof(c.c_ubyte.in_dll(flite.words, "cmu_lts_model"))
    found: dict[int, tuple[int, ...]] = {}
    todo = starts.tolist()
    while todo:
        if (at := todo.pop()) not in found:
            found[at] = RULE.unpack(c.string_at(model + RULE.size * at, RULE.size))
            todo += found[at][2:] if found[at][0] != LEAF else ()
    nodes = [found.get(at, (LEAF, 0, 0, 0)) for at in range(max(found) + 1)]
    said = ["" if phone == "epsilon" else " ".join(map(symbol, phone.split("-"))) for phone in phones]
    return {"nodes": np.array(nodes, np.uint16), "starts": starts, "phones": np.array(said)}


def kinds_of_words(flite: Flite) -> dict[str, str]:
    """Function words → their kind; every other word is `content`."""
    table = (c.c_void_p * 32).in_dll(flite.english, "us_gpos")
    kinds: dict[str, str] = {}
    for row in iter(table):
        if not row:
            return kinds
        cells = c.cast(row, c.POINTER(c.c_void_p))
        kind, at = flite.text(cells[0]), 1
        while cells[at]:
            kinds.setdefault(flite.text(cells[at]), kind)
            at += 1
    raise SystemExit("us_gpos is longer than expected")


def tree(flite: Flite, name: str) -> list[list[object]]:
    """Nodes: [feature, value it must have, where to go if it has not], the next node if it has; a leaf is [value]."""
    found = Tree.in_dll(flite.english, name)
    nodes: list[list[object]] = []
    while (node := found.nodes[len(nodes)]).value:
        value = flite.text(node.value)
        if node.op == LEAF:
            nodes.append([value])
        elif node.op == 0:
            nodes.append([found.features[node.feature].decode(), value, node.no])
        else:
            raise SystemExit(f"{name} asks a question that is not `is`")
    return nodes


def clusters(flite: Flite, form: str) -> list[str]:
    """The consonant clusters a pronounceable word may have at the place of {}."""
    return [
        cluster
        for size in range(LONGEST_CLUSTER + 1)
        for cluster in map("".join, product(CONSONANTS, repeat=size))
        if flite.pronounceable(form.format(cluster))
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", type=Path, default=Path("src/saywell/models/wren/english"))
    to: Path = parser.parse_args().to
    to.mkdir(parents=True, exist_ok=True)
    flite = Flite()
    (to / "lexicon.txt").write_text(lexicon(flite))
    np.savez(to / "letters.npz", **letters(flite))  # type: ignore[arg-type]
    sentence = {
        "kinds": kinds_of_words(flite),
        "part_of_speech": tree(flite, "us_pos_cart"),
        "heads": clusters(flite, "{}a"),
        "short": " ".join(short_words()),
        "tails": clusters(flite, "a{}"),
    }
    (to / "sentence.json").write_text(json.dumps(sentence, separators=(",", ":")))
    for file in sorted(to.iterdir()):
        print(f"{file}: {file.stat().st_size} bytes")


if __name__ == "__main__":
    main()
