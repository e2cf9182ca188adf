"""Everyday texts as a person reads them: `readings.tsv` (rule, text, spoken) and what each decision tells of itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.words import key, load
from saywell.text.english import RULES
from saywell.text.normalise import explain, normalise

READINGS = [
    tuple(part.replace("\\n", "\n") for part in line.split("\t"))
    for line in (Path(__file__).parent / "readings.tsv").read_text(encoding="utf-8").splitlines()
]


@pytest.mark.parametrize(("rule", "text", "spoken"), READINGS, ids=range(len(READINGS)))
def test_reads_as_a_person_does(rule: str, text: str, spoken: str) -> None:
    assert normalise(text, "en-US") == spoken


@pytest.mark.parametrize(
    ("kind", "text", "spoken"), load(), ids=[f"{kind}-{at}" for at, (kind, _, _) in enumerate(load())]
)
def test_reported_texts_are_read_right(kind: str, text: str, spoken: list[str]) -> None:
    assert key(normalise(text)) in [key(each) for each in spoken]


def test_every_rule_has_a_name_and_a_description_and_can_be_switched_off_alone() -> None:
    assert len({rule.name for rule in RULES}) == len(RULES)
    assert [rule.name for rule in RULES if not rule.about] == []
    (decided,) = explain("in 1999")
    assert (decided.written, decided.spoken, decided.rule) == ("1999", "nineteen ninety-nine", "lone-year")
    (decided,) = explain("in 1999", off=["lone-year"])
    assert (decided.spoken, decided.rule) == ("one thousand nine hundred and ninety-nine", "number")
    with pytest.raises(ValueError, match="no such rule: nonsense"):
        explain("in 1999", off=["nonsense"])


@pytest.mark.parametrize(
    ("text", "spans"),
    [
        ("Pay $5 by May 3.", [("$5", "money"), ("May 3", "month-first")]),
        ("caf\u0065\u0301 at 5&nbsp;km", [("5&nbsp;km", "measure")]),
        ("<b>Dr. Lee</b> \u2014 **10%**", [("Dr.", "doctor-or-drive"), (" \u2014 ", "dash"), ("10%", "measure")]),
        ("a posi-\ntive 3rd test", [("3rd", "ordinal-number")]),
    ],
)
def test_a_decision_names_the_span_of_the_text_it_was_made_for(text: str, spans: list[tuple[str, str]]) -> None:
    found = [decision for decision in explain(text) if decision.rule not in ("word", "mark")]
    assert [(decision.written, decision.rule) for decision in found] == spans
    assert all(text[decision.start : decision.end] == decision.written for decision in found)


@pytest.mark.parametrize(
    "text",
    [
        "Der Preis stieg am 21.11.2026 um 3,5 % auf 1.250 €", "今天下午3点，气温25°C", "Il fait 25°C aujourd'hui.",
        "La casa cuesta 1.250 euros.", "Het kost 5 euro.", "Il treno parte alle 8:30.",
        "Привет, мир 5", "Cena to 50 zł.",
    ],
)  # fmt: skip
def test_other_languages_are_not_read_by_english_rules(text: str) -> None:
    assert any(char.isdigit() for char in normalise(text, "und"))


@pytest.mark.parametrize(
    "text", ["It is 5 km away.", "25°C", "The café serves crème brûlée for $5.", "Milk, eggs, 3 l"]
)
def test_english_of_unknown_language_is_read(text: str) -> None:
    assert not any(char.isdigit() for char in normalise(text, "und"))


@pytest.mark.parametrize(
    ("markup", "spoken"),
    [("plain", "Tom and amp; Bob b bold b"), ("html", "Tom and Bob bold"), ("auto", "Tom and Bob bold")],
)
def test_markup_is_read_as_asked(markup: str, spoken: str) -> None:
    assert normalise("Tom &amp; Bob <b>bold</b>", markup=markup) == spoken


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("language", ["de", "en"])
def test_lines_of_every_system_stay_apart(language: str, end: str) -> None:
    assert normalise(f"Guten Tag.{end}Wie geht es?", language) == "Guten Tag. Wie geht es?"


def test_no_decision_is_made_in_other_languages() -> None:
    assert explain("Dr. Klein zahlte 5 Euro.", "de") == []
