"""Nothing the meter is read from may be trained on."""

from __future__ import annotations

from collections import Counter

from saywell.bench.held_out import part, sentences, words


def test_a_text_of_ten_minutes() -> None:
    assert 1500 < sum(len(words(sentence)) for sentence in sentences()) < 1800
    assert len({tuple(words(sentence)) for sentence in sentences()}) == len(sentences())


def test_held_out_however_it_is_written() -> None:
    sentence = sentences()[0]
    assert {part(text) for text in sentences()} == {"test"}
    assert part(sentence.upper().replace(".", " !!")) == "test"
    assert part("Two thousand and two were lost.") == part("2,002 were lost.")


def test_a_long_piece_of_a_held_out_sentence_is_held_out() -> None:
    said = words(sentences()[0])
    assert part(f"They say {' '.join(said[1:7])} again.") == "test"
    assert part(f"They say {' '.join(said[1:5])} again.") != "test"


def test_some_are_for_validation_most_for_training() -> None:
    made = [f"Row {number} is a sentence of its own kind." for number in range(2000)]
    parts = Counter(map(part, made))
    assert set(parts) == {"train", "valid"}
    assert 20 <= parts["valid"] <= 70
