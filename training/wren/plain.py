"""Plain sentences from a small grammar: people, things and places of every day; documentation says little of them."""

from __future__ import annotations

import random

PEOPLE = """I|you|he|she|we|they|my brother|her mother|the old man|the teacher|our neighbour|a young woman
the doctor|his uncle|the children|the farmer|two of my friends|the driver|nobody|everyone|the girl next door|Mary|John
Peter|Susan|Mister Brown|the captain|my grandmother"""
PAST = """found|saw|carried|forgot|bought|sold|painted|opened|closed|followed|remembered|lost|kept|left
brought|cleaned|described|wanted|liked|heard about|looked for|talked about|waited for|paid for|laughed at|looked after
wrote about|dreamed of|asked for|gave away"""
THINGS = """house|boat|garden|letter|bread|chair|window|dog|horse|bridge|river|mountain|picture|book|song|lamp
clock|coat|basket|kitchen|road|train|ticket|apple tree|bottle of water|cup of tea|piece of paper|pair of shoes
bag of oranges|box|key|knife|fire|field|ship|birthday cake|newspaper|story|village|church|market|wall|stone|feather
blanket|mirror|piano|radio|engine|bicycle|cloud|star"""
KINDS = """old|new|small|large|red|blue|green|yellow|quiet|heavy|broken|beautiful|strange|cold|warm|dark|bright
empty|wooden|little|first|second|last|other|good|bad|long|short|famous|dirty|narrow|wide|sweet|cheap|expensive|unusual
round|sharp|soft|young"""
PLACES = """in the garden|by the river|on the hill|under the bridge|near the station|behind the house
at the market|in the kitchen|on the other side of the street|at the edge of the forest|in the middle of the town
along the coast|upstairs|outside|at school|next to the door|across the valley|over the mountains|from the window
in a small room|on the train|at the top of the stairs|beside the fire"""
TIMES = """yesterday|last night|in the morning|every day|before the sun came up|after dinner|on Monday|in July
a long time ago|at half past six|when the rain stopped|for three hours|twice a week|in the winter of that year
all afternoon|until midnight|later|once again|at last|on Friday evening"""
REASONS = """because it was cold|although nobody knew why|and that was all|so we went home|but it was too late
while the others slept|if the weather is good|because there was no time left|and then the lights went out
but she said nothing|as if it had always been there|which surprised everyone|who had come from far away
and never came back|since there was nothing else to do|and thanked us"""
FRAMES = (
    "{p} {v} the {t} {w}.",
    "{p} {v} the {k} {t} {w} {d}.",
    "{d}, {p} {v} a {k} {t}.",
    "The {k} {t} {w} was {k} and {k}.",
    "{p} {v} the {t}, {r}.",
    "Did {p} see the {k} {t} {w}?",
    "Why is the {t} {w} so {k}?",
    "There was a {k} {t} {w}, {r}.",
    "{p} never {v} the {t} of the {k} {t}.",
    "How {k} the {t} is!",
    "The {t} and the {t} were {w} {d}.",
    "Please put the {k} {t} {w}.",
    "What would {p} do with the {t} {w}?",
    "It takes {n} minutes to walk to the {t} {w}.",
    "{p} and {p} {v} {n} {k} letters {d}, {r}.",
    "Yes, {p} {v} it {d}.",
    "{p} said that the {t} {w} belongs to {p}.",
)


def _lines(words: str) -> list[str]:
    return words.replace("\n", "|").split("|")


CHOICES = {
    "p": _lines(PEOPLE),
    "v": _lines(PAST),
    "t": _lines(THINGS),
    "k": _lines(KINDS),
    "w": _lines(PLACES),
    "d": _lines(TIMES),
    "r": _lines(REASONS),
    "n": ["two", "three", "five", "seven", "ten", "twelve", "twenty", "thirty five", "a hundred", "sixty four", "nine"],
}


def sentence(rng: random.Random) -> str:
    """One sentence of the grammar, its first letter large."""
    text = "".join(_filled(piece, rng) for piece in rng.choice(FRAMES).split("{"))
    return text[0].upper() + text[1:]


def _filled(piece: str, rng: random.Random) -> str:
    if piece[1:2] != "}":
        return piece
    return rng.choice(CHOICES[piece[0]]) + piece[2:]
