"""Is this English? For texts whose language is unknown: other languages must not be read by English rules."""

from __future__ import annotations

import re

from saywell.text.breaks import word_set

_COMMON = {
    "en": word_set(
        "the of and to in is it that was for you with on as are this have be at or not from by but they we he she "
        "his her what all were when there can an your which their said if do will each about how up out them then "
        "so some would like has him see could no than been my who its now i a"
    ),
    "de": word_set(
        "der die das und ist nicht ein eine einen zu den mit von auf für im sich dem des auch es an werden aus er "
        "hat dass sie nach wird bei einer um am sind noch wie einem über so zum war haben nur oder aber vor zur "
        "bis mehr durch man ich wir uhr preis kostet heute wo was schon"
    ),
    "fr": word_set(
        "le la les de des et un une est que qui dans pour pas sur au aux avec ce il elle se ne du en par plus "
        "sont cette nous vous ils mais ou où son sa ses comme je tu été avoir fait leur à qu"
    ),
    "es": word_set(
        "el la los las de y que en un una es por con para no se del al lo como más pero sus le ya o este sí "
        "porque esta entre cuando muy sin sobre también me hasta hay donde quien desde todo nos yo qué él tiene "
        "son está"
    ),
    "it": word_set(
        "il lo la i gli le di e che un una è per con non si del della dei da nel al sono come più ma anche alla "
        "su ha questo questa o se perché quando molto io tu costo"
    ),
    "pt": word_set(
        "o a os as de e que um uma é por com para não se do da dos das em no na mais como mas ao seu sua ou ser "
        "quando muito nos já eu também só pelo pela até isso ela entre era são custa"
    ),
    "nl": word_set(
        "de het een en van is dat op te in zijn niet met voor aan er om die hij ook als bij maar dan zou naar "
        "heeft uit wel nog worden wat deze geen meer ik je wij kost"
    ),
    "sv": word_set("och att det som en på är av för med till den har inte om ett han men var jag så vi kan när år"),
    "pl": word_set("i w na z do nie się to że jest o po jak za od ale co czy przez tak już tylko by dla może są"),
}
_WORD = re.compile(r"[^\W\d_]+")
_SCRIPTS = {
    "ja": re.compile(r"[\u3040-\u30ff]"),
    "zh": re.compile(r"[\u3400-\u9fff]"),
    "ko": re.compile(r"[\u1100-\u11ff\uac00-\ud7af]"),
    "ru": re.compile(r"[\u0400-\u04ff]"),
    "el": re.compile(r"[\u0370-\u03ff]"),
    "he": re.compile(r"[\u0590-\u05ff]"),
    "ar": re.compile(r"[\u0600-\u06ff]"),
    "hi": re.compile(r"[\u0900-\u097f]"),
}
"""Most Han in a text with kana is Japanese, so kana is looked for first."""
_SURE = frozenset("äöüßñçãõåøæłżźćśńęąàèìòùâêîôûëïœ¿¡ğşıčšžřěůőű")
"""Letters that English words have in names and loans only."""
_LOOK = 2_000
"""Characters that are looked at."""


def likely(text: str) -> str:
    """The language that a text is most likely in, `en` if nothing tells: by its script, else by its common words."""
    text = text[:_LOOK]
    words = [word.lower() for word in _WORD.findall(text)]
    letters = sum(map(len, words))
    for language, script in _SCRIPTS.items():
        if 4 * len(script.findall(text)) > letters:
            return language
    scores = {language: sum(word in common for word in words) for language, common in _COMMON.items()}
    return max(scores, key=scores.__getitem__)


def looks_english(text: str) -> bool:
    """Whether English rules should read a text of unknown language; also if it has too little to tell."""
    words = [word.lower() for word in _WORD.findall(text[:_LOOK])]
    if not words:
        return True
    latin = sum(word.isascii() or all(ord(char) < 0x250 for char in word) for word in words)
    if latin * 2 < len(words):
        return False
    scores = {language: sum(word in common for word in words) for language, common in _COMMON.items()}
    english = scores.pop("en")
    other = max(scores.values())
    foreign = sum(any(char in _SURE for char in word) for word in words)
    return english > other or (english == other and not foreign)
