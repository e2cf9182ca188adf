"""Markup as a person would read it: Markdown, HTML and entities, SSML, LaTeX, lines and hyphenation.

Each pass is a list of edits of the text, so positions in the request's own text stay known. Patterns are bounded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape
from re import Match
from typing import Literal

from saywell.text.breaks import word_set
from saywell.text.check import speakable
from saywell.text.spans import Edit, Edited
from saywell.types import Markup

_BLOCKS = word_set(
    "address article aside blockquote body br center dd div dl dt fieldset figcaption figure footer form h1 h2 h3 "
    "h4 h5 h6 head header hr html legend li main nav ol option p pre section summary table tbody tfoot thead "
    "title tr ul speak voice par seq paragraph s sentence"
)
_INLINE = word_set(
    "a abbr acronym audio b base bdi bdo big button canvas cite code col colgroup data datalist del details dfn "
    "em embed emphasis font i iframe img input ins kbd label lang link lexicon mark meta meter noscript object "
    "output param phoneme picture prosody q rp rt ruby samp say-as small source span strike strong sub sup svg td "
    "textarea th time tt u var video wbr w script style template break token mstts amazon:effect doctype "
    "path g rect circle line polyline polygon defs use text tspan nobr slot dialog c v picture track"
)
_TAG = re.compile(
    r"<(?P<close>/)?(?P<name>!?[A-Za-z][A-Za-z0-9:-]{0,24})(?P<attributes>(?:\s{1,60}(?:"
    r"[A-Za-z_:@#(\[*][\w:.@()\[\]-]{0,60}\s?=\s?(?:\"[^\"]{0,1000}\"|'[^']{0,1000}'|\{[^{}<>]{0,300}\}|[^\s\"'<>=]{1,300})"
    r"|checked|disabled|hidden|async|defer|controls|open|required|readonly|selected|loop|muted|autoplay|playsinline"
    r"|allowfullscreen|itemscope|itemprop|novalidate|download|reversed|inert|multiple|data-[\w-]{1,40}|v-[\w-]{1,40}"
    r")){0,20})\s{0,60}/?>|<v(?:\.\w{1,20})?\s(?P<speaker>[^<>]{1,40})>|<\d\d:\d\d(?::\d\d)?\.\d{3}>"
)
"""A tag with attributes as HTML, its frameworks and WebVTT have them; words between < and > are none."""
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
_HIDDEN = re.compile(r"<!--|<(script|style|head|template)\b[^<>]{0,500}>", re.IGNORECASE)
_ALT = re.compile(r"\balt\s?=\s?(?:\"([^\"]{0,300})\"|'([^']{0,300})')", re.IGNORECASE)

_LINK = re.compile(
    r"(?:!\[(?P<alt>[^\[\]]{0,300})\]|\[(?P<text>(?:[^\[\]]|\[[^\[\]]{0,100}\]){0,300})\])"
    r"\(\s{0,4}(?:<[^<>\n]{0,500}>|(?:https?://|mailto:|[/#.?\w])(?:[^()\s<>]|\([^()\s]{0,100}\)){0,500})"
    r"(?:\s{1,4}(?:\"[^\"\n]{0,200}\"|'[^'\n]{0,200}'))?\s{0,4}\)"
)
_REFERENCE_LINK = re.compile(
    r"!?\[(?=[^\[\]]{0,40}[A-Za-z]|!?\[)((?:[^\[\]]|\[[^\[\]]{0,100}\]){1,300})\]\[[^\[\]\n]{0,60}\]"
)
_WORD = re.compile(r"[^\W_]")
_ALERT = re.compile(r"(?:^|(?<=\n))>[ ]?\[!(NOTE|TIP|IMPORTANT|WARNING|CAUTION)\][ ]*(?=\n|$)")
_DEFINITION = re.compile(r"(?:^|(?<=\n))[ ]{0,3}\[[^\[\]\n^]{1,60}\]:[ ]{0,4}\S{1,500}[^\n]{0,200}(?:\n|$)")
_FOOTNOTE = re.compile(r"\[\^[\w-]{1,40}\](?::[ ]?)?")
_CITED = r"\[(?:\d{1,3}(?:\s?[,–-]\s?\d{1,3}){0,8}|[a-z]|note \d{1,3}|citation needed)\]"
_CITATION = re.compile(rf"(?P<space>\s?){_CITED}(?:(?:,\s?|[–-])?{_CITED}){{0,12}}(?![(\w\[:])")
_INDEXED = re.compile(
    r"\b(?:arrays?|lists?|vectors?|tuples?|sets?|intervals?|range|index|options?|choices?|values?|chapters?|pages?|steps?|returns?|"
    r"equals|prints?|outputs?|shape|size|between|select|choose|pick|items|args|argv|arr|data|press|enter|type|keys?|of|or|is|are|was|were|than|item|element|row|column|and)"
    r"\s?\Z",
    re.IGNORECASE,
)
"""What stands before numbers in brackets that are no citation."""
_FENCE = re.compile(r"(?:^|(?<=\n))[ \t]{0,12}(?:```+|~~~+)[^\n`]{0,40}(?:\n|$)")
_BOX = re.compile(r"(?<=[-*+] )\[[ xX]\] ")
_QUOTE = re.compile(r"(?:^|(?<=\n))[ ]{0,4}(?:>(?:[ ]|(?=[^\s\d$€£.=-])|(?=\n|$))){1,6}")
_CLOSED_HEADING = re.compile(r"(?<=\S)[ ]#{1,6}[ ]*(?=\n|$)")
_TABLE_RULE = re.compile(
    r"(?:^|(?<=\n))[ ]{0,3}\|?[ ]{0,3}:?-{2,50}:?[ ]{0,3}(?:\|[ ]{0,3}:?-{2,50}:?[ ]{0,3}){1,30}\|?[ ]*(?:\n|$)"
)
_TABLE_ROW = re.compile(r"(?:^|(?<=\n))[ ]{0,3}\|([^\n]{1,1000})\|[ ]*(?=\n|$)")
_OTHER_MARKDOWN = re.compile(r"(?:^|\n)#{1,6} \S|\*\*\w|(?:^|\n)[-*+] \S|(?:^|\n)[ ]{0,4}>(?: [^\s>]|[A-Za-z])|`\w")
_QUOTE_END = re.compile(r"(?:^|(?<=\n))[ ]{0,4}>[^\n]{0,1000}[\w,](?=\n(?![ ]{0,4}>|\n)[^\n])")
_RAISED_TAG = re.compile(r"<sup>([-−+]?\d{1,4})</sup>", re.IGNORECASE)
_RAISED = str.maketrans("0123456789+-−", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁻")
_SPOKEN_AS = re.compile(
    r"<sub\s{1,8}alias\s?=\s?(?:\"([^\"<>]{1,300})\"|'([^'<>]{1,300})')\s?>[^<>]{0,300}</sub>", re.IGNORECASE
)

_MATH = re.compile(
    r"\$\$(?P<display>[^$]{1,500})\$\$|(?<![\w\\$])\$(?P<inline>[^\s$](?:[^$\n]{0,300}[^\s$\\])?)\$(?![\d$])"
    r"|\\\((?P<round>[^\n]{1,300}?)\\\)|\\\[(?P<square>[^\]]{1,500}?)\\\]"
)
_MATHEMATICAL = re.compile(
    r"\\[A-Za-z%]|[\^_=<>|]|\\[{}]|^-?\d+(?:\.\d+)?$|^\([a-z]\b|^[A-Za-z]'?$|^[A-Za-z]\W|[-+*/]\s?[A-Za-z]\b|^-?\d+[A-Za-z]\b"
)
_PROSE_WORD = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{4,}")
_COMMANDS = {
    "leq": "≤", "le": "≤", "leqslant": "≤", "geq": "≥", "ge": "≥", "neq": "≠", "ne": "≠", "approx": "≈", "times": "×",
    "cdot": "×", "div": "÷", "pm": "±", "infty": "∞", "to": "→", "rightarrow": "→", "sum": " sum of ",
    "int": " integral of ", "prod": " product of ", "partial": " partial ", "nabla": " nabla ", "in": " in ",
    "forall": " for all ", "exists": " there exists ", "cup": " union ", "cap": " intersection ",
    "subset": " subset of ", "sim": " similar to ", "equiv": " equivalent to ", "propto": " proportional to ",
    "ldots": "...", "cdots": "...", "dots": "...", "degree": "°", "circ": "°", "log": " log ", "ln": " log ",
    "sin": " sine ", "cos": " cosine ", "tan": " tangent ", "lim": " limit ", "exp": " exponential ",
    "max": " maximum ", "min": " minimum ", "quad": " ", "qquad": " ", "left": "", "right": "", "displaystyle": "",
    "mathrm": "", "mathbf": "", "mathbb": "", "mathcal": "", "text": "", "operatorname": "", "textbf": "",
    "textit": "", "emph": "", "varepsilon": " epsilon ", "varphi": " phi ", "ll": " much less than ",
    "gg": " much greater than ", "mid": " given ", "land": " and ", "lor": " or ", "neg": " not ",
    "implies": " implies ", "Rightarrow": " implies ", "iff": " if and only if ", "gt": ">", "lt": "<",
    "vec": " vector ",    "hat": "", "bar": "", "overline": "", "tilde": "",
    "mathit": "", "mathsf": "", "bm": "", "big": "", "Big": "", "notin": " not in ",
}  # fmt: skip
"""LaTeX commands → what is read; any other (`\\alpha`) is read as its name."""
_FRACTION = re.compile(r"\\[dt]?frac\s?\{([^{}]{1,80})\}\s?\{([^{}]{1,80})\}")
_SUM = re.compile(r"\\(sum|prod|int)\s?_(?:\{([^{}]{1,40})\}|(\w))\s?(?:\^(?:\{([^{}]{1,40})\}|(\w)))?")
_ROOT = re.compile(r"\\sqrt\s?(?:\[(?P<degree>\w{1,3})\])?\s?\{(?P<of>[^{}]{1,80})\}")
_TEXT = re.compile(r"\\(?:text|mathrm|operatorname|mbox)\s?\{[^{}]{0,80}\}")
_ENVIRONMENT_BODY = re.compile(
    r"\\begin\{(?:equation|align|gather|math|displaymath)\*?\}([^$]{1,500}?)\\end\{[a-z]{1,20}\*?\}"
)
_ENVIRONMENT = re.compile(r"\\(?:begin|end)\{[a-z]{1,20}\*?\}")
_COMMAND = re.compile(r"\\([A-Za-z]{1,20})\s?")
_SUBSCRIPT = re.compile(r"(?<=[A-Za-z0-9)])_(?:\{([^{}]{1,20})\}|(\w))")
_EXPONENT = re.compile(r"(?:\}|\s)?\^\{([^{}]{1,30})\}")

_HYPHENATED = re.compile(r"(?<![\w-])([A-Za-z]{0,20}[a-z]{2})-[ ]{0,4}\n[ ]{0,8}(?=[a-z]{2})")
_KEPT_HYPHEN = word_set(
    "well self non ex half long short high low two three four five six seven eight nine ten twenty thirty forty "
    "fifty sixty seventy eighty ninety full part hard soft old new good ill far near fast slow single double open "
    "vice ice one by co anti pre post multi "
    "year user state decision data cross large small left right mother father sister brother check"
)
_SOFT_HYPHEN = re.compile(r"\u00ad[ ]?\n?[ ]{0,8}")
_LINE_END = re.compile(
    r"(?P<last>[^\s.!?,;:…—–\-*_~`。！？，；：、।؟])"
    r"(?P<close>[\"')\]*_~`]{0,3})[ ]*(?P<gap>\n[ ]*(?:\n\s*)?)(?=(?P<next>\S))"
)
_MARKER = re.compile(r"[-*+•‣·▪◦]\s|\(?(?:\d{1,3}|[a-zA-Z]|[ivx]{1,4})[.)]\s|#{1,6}\s|[=-]{3}")
_BULLET = re.compile(r"(?:^|(?<=\n))[ ]*(?:[-*+•‣·▪◦]|#{1,6})[ ]+(?=\S)")
_RULE_LINE = re.compile(r"(?:^|(?<=\n))[ ]{0,3}(?:(?:-[ ]?){3,}|(?:_[ ]?){3,}|(?:\*[ ]?){3,}|={3,})[ ]*(?=\n|$)")
_SHORT_LINE = 48
"""Characters up to which a line is one of its own, not the first part of wrapped prose."""


def detect(text: str) -> Literal["plain", "markdown", "html"]:
    """Which markup a text has."""
    if "<!--" in text:
        return "html" if not _has_markdown(text) else "markdown"
    for tag in _TAG.finditer(text):
        if not tag["name"] or _known(tag["name"]):
            return "html" if not _has_markdown(text) else "markdown"
    if _ENTITY.search(text) and unescape(text) != text:
        return "html" if not _has_markdown(text) else "markdown"
    return "markdown" if _has_markdown(text) else "plain"


def _has_markdown(text: str) -> bool:
    signs = (
        _LINK,
        _REFERENCE_LINK,
        _DEFINITION,
        _IS_RESTRUCTURED,
        _FENCE,
        _TABLE_RULE,
        _BOX,
        _FOOTNOTE,
        _MATH,
        _OTHER_MARKDOWN,
    )
    return any(sign.search(text) for sign in signs)


_OPENS_BLOCK = re.compile(r"<!--|(?:^|(?<=\n)|(?<=>))[ ]{0,8}<(script|style)\b[^<>]{0,500}>", re.IGNORECASE)
"""What hides the text after it until it is closed, as in browsers. A <script> within a sentence is spoken of."""


def visible(text: str, awaited: str = "") -> tuple[int, int, str]:
    """What is not hidden of a part of a text: start, end, and the sign that ends what is hidden after it, if any.

    `awaited`: the sign that the part before it awaits.
    """
    lower, begin = text.lower(), 0
    if awaited:
        end = lower.find(awaited)
        if end < 0:
            return len(text), len(text), awaited
        begin = end + len(awaited)
    for found in _OPENS_BLOCK.finditer(text, begin):
        closing = f"</{found[1].lower()}>" if found[1] else "-->"
        if lower.rfind(closing) < found.end():
            return begin, found.start(), closing
    return begin, len(text), ""


def strip_markup(edited: Edited, markup: Markup = "auto", *, formulas: bool = True) -> Edited:
    """The text without the markup; `auto`: whatever it has. `formulas`: read LaTeX in English."""
    used = detect(edited.text) if markup == "auto" else markup
    if used == "plain":
        return _math(edited) if markup == "auto" and formulas else edited
    if used == "markdown":
        edited = restructured(edited)
        edited = edited.edit(_marks(edited.text, _DEFINITION, ""))
        edited = edited.edit(_marks(edited.text, _FENCE, "\n"))
        edited = edited.edit((m.start(), m.end(), f"{m[1].capitalize()}:") for m in _ALERT.finditer(edited.text))
        edited = edited.edit((m.end(), m.end(), "\n") for m in _QUOTE_END.finditer(edited.text))
        for pattern in (_BOX, _QUOTE, _CLOSED_HEADING, _TABLE_RULE):
            edited = edited.edit(_marks(edited.text, pattern, ""))
        edited = edited.edit(_rows(edited.text))
        for _ in range(2):  # an image may be a link
            edited = edited.edit(_links(edited.text))
            edited = edited.edit((m.start(), m.end(), m[1]) for m in _REFERENCE_LINK.finditer(edited.text))
    edited = edited.edit(_hidden(edited.text))
    edited = edited.edit((m.start(), m.end(), m[1] or m[2]) for m in _SPOKEN_AS.finditer(edited.text))
    edited = edited.edit((m.start(), m.end(), m[1].translate(_RAISED)) for m in _RAISED_TAG.finditer(edited.text))
    edited = edited.edit(_tags(edited.text))
    for _ in range(2):  # some programs escape what is escaped
        edited = edited.edit(
            (m.start(), m.end(), unescape(m[0]).replace("\xa0", " ")) for m in _ENTITY.finditer(edited.text)
        )
    return _math(edited) if formulas else edited


def _links(text: str) -> Iterator[Edit]:
    for found in _LINK.finditer(text):
        spoken = found["alt"] if found["text"] is None else found["text"]
        if _WORD.search(spoken) or not spoken.strip():
            yield found.start(), found.end(), spoken


_DIRECTIVE = re.compile(
    r"(?:^|(?<=\n))(?P<indent>[ ]{0,12})\.\.[ ](?:\|[^|\n]{1,60}\|[ ])?"
    r"(?:(?P<name>[a-z][\w:-]{0,30})::[^\n]{0,300}|[^\n]{0,300})"
    r"(?P<options>(?:\n(?P=indent)[ ]{2,8}:[\w-]{1,30}:[^\n]{0,300}){0,12})(?=\n|$)"
)
_SPOKEN_DIRECTIVES = word_set(
    "note warning tip hint caution important attention danger seealso versionadded deprecated"
)
_IS_RESTRUCTURED = re.compile(
    r"(?:^|\n)[ ]{0,12}\.\. (?:[a-z][\w:-]*::|_\S|\|)|"
    r"(?:^|\n)[^\n]*::[ ]*\n\s*\n[ ]|:[a-z]{2,12}:`|`_(?:_)?(?!\w)|(?:^|\n)[ ]{0,8}\+[-=]{2,100}\+"
)
_ROLE = re.compile(r":[a-z][a-z:]{1,20}:`[~!]?([^`<\n]{1,200}?)(?:\s?<[^<>`\n]{1,300}>)?`")
_RST_LINK = re.compile(r"`([^`<]{1,200}?)\s{0,4}(?:<[^<>`]{1,500}>)?`__?(?!\w)")
_GRID_RULE = re.compile(r"(?:^|(?<=\n))[ ]{0,8}\+(?:[-=]{2,100}\+){1,20}[ ]*(?:\n|$)")
_LITERAL_AHEAD = re.compile(r"::(?=[ ]*\n\s*\n)")


_EMPHASIS = re.compile(r"\*\*|~~|(?<!\w)__?(?=\w)|(?<=\w)__?(?!\w)|(?<![\w*])\*(?=\w)|(?<=\w)\*(?![\w*])|`{1,3}")


def emphasis(edited: Edited) -> Edited:
    """The text without the signs of emphasis and code; in English the grammar leaves them out."""
    return edited.edit(_marks(edited.text, _EMPHASIS, ""))


def restructured(edited: Edited) -> Edited:
    """reStructuredText without directives, roles, targets and the rules of tables."""
    if not _IS_RESTRUCTURED.search(edited.text):
        return edited
    edited = edited.edit(_directives(edited.text))
    for pattern in (_ROLE, _RST_LINK):
        edited = edited.edit((m.start(), m.end(), m[1]) for m in pattern.finditer(edited.text))
    edited = edited.edit(_marks(edited.text, _GRID_RULE, ""))
    return edited.edit(_marks(edited.text, _LITERAL_AHEAD, ":"))


def _directives(text: str) -> Iterator[Edit]:
    for found in _DIRECTIVE.finditer(text):
        name = found["name"] or ""
        if name in _SPOKEN_DIRECTIVES:
            yield found.start(), found.start("name"), ""
            yield found.end("name"), found.end("name") + 2, ":"
        else:
            yield found.start(), found.end(), ""


_MOMENT = r"(?:\d{1,2}:)?\d\d:\d\d[,.]\d{3}"
_SUBTITLE = re.compile(rf"(?:^|(?<=\n))(?:\d{{1,5}}[ ]*\n)?{_MOMENT}[ ]*-->[ ]*{_MOMENT}[^\n]{{0,80}}(?:\n|$)")
"""Number and time of a subtitle (SRT, WebVTT)."""
_CUE_STYLE = re.compile(r"\{\\[a-z]{1,4}\d{0,4}[^{}\n]{0,40}\}|\AWEBVTT\b[^\n]{0,80}(?=\n|$)|(?<=-->)[^\n]{0,80}")


def references(edited: Edited) -> Edited:
    """The text without marks of footnotes and citations."""
    edited = edited.edit(_marks(edited.text, _SUBTITLE, ""))
    edited = edited.edit(_marks(edited.text, _CUE_STYLE, ""))
    edited = edited.edit(_marks(edited.text, _FOOTNOTE, ""))
    return edited.edit(
        (m.start(), m.end(), "") for m in _CITATION.finditer(edited.text) if _is_citation(edited.text, m)
    )


def _is_citation(text: str, found: Match[str]) -> bool:
    """Behind a word or a sentence, in rising order; not an array, an interval or a choice."""
    at = found.start("space")
    before = text[max(0, at - 16) : at]
    numbers = [int(number) for number in re.findall(r"\d+", found[0])]
    if numbers != sorted(set(numbers)) or 0 in numbers:
        return False
    if not found["space"] and re.search(
        r"\b(?:array|arr|list|items|args|argv|data|index|values|row|col|x|y)\Z", before
    ):
        return False
    if found["space"] and (not numbers or _INDEXED.search(before) or before[-1:] in ",:;(="):
        return False
    return bool(
        re.search(r"[a-z]{3}\Z|[.,;:!?)\"'”’]\Z", before) or (not found["space"] and re.search(r"\d{4}\Z", before))
    )


def lines(edited: Edited) -> Edited:
    """Hyphenated words whole, a full stop where a line that stands alone had none, no bullets, no rules."""
    edited = edited.edit(_marks(edited.text, _SOFT_HYPHEN, ""))
    if "\n" not in edited.text:
        return edited.edit(_bullets(edited.text))
    edited = edited.edit(
        (m.end(1), m.end(), "-" if m[1].lower() in _KEPT_HYPHEN else "") for m in _HYPHENATED.finditer(edited.text)
    )
    edited = edited.edit(_marks(edited.text, _RULE_LINE, "\n"))
    edited = edited.edit(_stops(edited.text))
    return edited.edit(_bullets(edited.text))


def _stops(text: str) -> Iterator[Edit]:
    for found in _LINE_END.finditer(text):
        at = found.end("close")
        begun = text.rfind("\n", 0, at) + 1
        short = at - begun <= _SHORT_LINE and (
            found["next"].isupper() or found["next"].isdigit() or found["next"] in "\"“'*_"
        )
        marked = _MARKER.match(text, found.end()) is not None
        if found["gap"].endswith("  ") and not marked and found["gap"].count("\n") == 1:
            continue  # an indented line goes on with a list item
        if found["gap"].count("\n") > 1 or short or marked or _MARKER.match(text, begun):
            yield at, at, "."


def _bullets(text: str) -> Iterator[Edit]:
    for found in _BULLET.finditer(text):
        end = text.find("\n", found.end())
        if speakable(text[found.end() : end if end >= 0 else None]):
            yield found.start(), found.end(), " "


def _marks(text: str, pattern: re.Pattern[str], instead: str) -> Iterator[Edit]:
    return ((found.start(), found.end(), instead) for found in pattern.finditer(text))


def _rows(text: str) -> Iterator[Edit]:
    """Rows of a table: its cells with commas, and a full stop."""
    for row in _TABLE_ROW.finditer(text):
        cells = [cell.strip() for cell in row[1].split("|") if cell.strip()]
        spoken = ", ".join(cells)
        yield row.start(), row.end(), spoken + ("" if spoken[-1:] in ".!?" else ".") if cells else ""


def _hidden(text: str) -> Iterator[Edit]:
    """Comments, scripts and styles."""
    lower = text.lower()
    closed: dict[str, int] = {}
    """Closing sign → where the next one is, as far as known; -1: there is none."""
    at = 0
    for found in _HIDDEN.finditer(text):
        closing = f"</{found[1].lower()}>" if found[1] else "-->"
        if found.start() < at or closed.get(closing) == -1:
            continue
        closed[closing] = lower.find(closing, found.end())
        if closed[closing] >= 0:
            at = closed[closing] + len(closing)
            yield found.start(), at, " "


def _known(name: str) -> bool:
    name = name.lower().lstrip("!")
    return name in _BLOCKS or name in _INLINE or "-" in name[1:]


def _tags(text: str) -> Iterator[Edit]:
    for tag in _TAG.finditer(text):
        name = (tag["name"] or "").lower().lstrip("!")
        if name and not _known(name):
            continue
        if name == "img" and (alt := _ALT.search(tag["attributes"])):
            instead = f" {alt[1] or alt[2] or ''} "
        elif name in ("td", "th"):
            instead = ", " if tag["close"] else ""
        elif name == "break":
            instead = ", "
        else:
            instead = "\n\n" if name in _BLOCKS else ""
        yield tag.start(), tag.end(), instead


def _math(edited: Edited) -> Edited:
    """LaTeX between dollar signs, `\\(` and `\\[`."""
    if "$" not in edited.text and "\\" not in edited.text:
        return edited
    edited = edited.edit(_formulas(edited.text))
    return edited.edit((m.start(), m.end(), plain_math(m[1])) for m in _ENVIRONMENT_BODY.finditer(edited.text))


def _formulas(text: str) -> Iterator[Edit]:
    for found in _MATH.finditer(text):
        formula = found["display"] or found["inline"] or found["round"] or found["square"]
        sure = found["inline"] is None or (
            _MATHEMATICAL.search(formula) and not _PROSE_WORD.search(_TEXT.sub("", formula))
        )
        if sure or (re.fullmatch(r"-?\d+(?:\^.*)?", formula) and "^" in formula):
            yield found.start(), found.end(), plain_math(formula)


def _sum(found: Match[str]) -> str:
    name = {"sum": "sum", "prod": "product", "int": "integral"}[found[1]]
    to = f" to {found[4] or found[5]}" if found[4] or found[5] else ""
    return f" {name} from {found[2] or found[3]}{to} of "


def _root(found: Match[str]) -> str:
    degree = found["degree"]
    names = {"3": " cube root of ", None: "√", "2": "√"}
    return f"{names.get(degree, f' {degree}th root of ')}{found['of']}"


def _exponent(found: Match[str]) -> str:
    """A number or a letter for the grammar, anything longer in words."""
    inner = found[1]
    return f"^({inner})" if re.fullmatch(r"[-−+]?(?:\d{1,6}|[a-z])", inner) else f" to the power of {inner} "


def plain_math(formula: str) -> str:
    """A LaTeX formula with signs that the grammar reads."""
    formula = _ENVIRONMENT.sub(" ", formula).replace("\\%", "%")
    formula = re.sub(r"(?<![A-Za-z])-|-(?![A-Za-z]{2})", "−", formula)
    formula = re.sub(r"\\mathbb\{(\w)\}", r"\1", formula)
    for _ in range(3):
        formula = _ROOT.sub(_root, _FRACTION.sub(r" \1 over \2 ", formula))
    formula = _SUM.sub(_sum, formula)
    formula = _EXPONENT.sub(_exponent, formula)
    formula = re.sub(r"(?<![A-Za-z0-9^])(\d{1,4})(?=[a-z])", r"\1 ", formula)
    formula = re.sub(r"(?<=\w)'", " prime", formula)
    formula = _SUBSCRIPT.sub(lambda found: f" sub {found[1] or found[2]}", formula)
    formula = _COMMAND.sub(lambda found: _COMMANDS.get(found[1], f" {found[1]} "), formula)
    return re.sub(r"\\[,;:! ]|[{}]|\\\\", " ", formula)
