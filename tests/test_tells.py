"""Whether form tells direction: a planted tell is found, and where there is none, none is."""

import json
import random
import time

import numpy as np
import pytest

from r1k_builder.tells import FEWEST_PAIRS, MOST_PAIRS, STRENGTH, WORDS, Form, Tells, _entries, _Features, _scores, wilson

VOCABULARY = [f"word{number}" for number in range(300)]


def text(draw: random.Random, words: int = 60) -> str:
    return " ".join(draw.choices(VOCABULARY, k=words))


def gathered(pairs: int, tell: str = "", share: float = 1.0, seed: int = 0) -> Tells:
    """Pairs of random words, of which a share of the reverse answers begins with `tell`."""
    draw, tells = random.Random(seed), Tells()
    for number in range(pairs):
        forward = Form.of(text(draw), text(draw))
        reverse = Form.of((f"{tell} " if tell and draw.random() < share else "") + text(draw), text(draw))
        if tells.admits(f"{number:020x}"):
            tells.add(f"{number:020x}", forward, reverse)
    return tells


def test_a_tell_is_found_and_named() -> None:
    report = gathered(150, "Answer:", share=0.9).report()
    told = report["parts"]["answer_first"]
    assert told["accuracy"] > 0.85
    assert told["interval"][0] < told["accuracy"] < told["interval"][1]
    assert told["auc_interval"][0] > 0.75
    assert [tell["words"] for tell in told["tells"]] == ["Answer:"]
    assert told["tells"][0]["forward"] == 0
    assert 120 < told["tells"][0]["reverse"] <= 150


def test_where_form_says_nothing_half_is_guessed() -> None:
    """A row that is scored by a classifier that has seen it, or its pair, would be told well above chance."""
    for part, told in gathered(150).report()["parts"].items():
        assert told["interval"][0] < 0.5 < told["interval"][1], part
        assert 0.4 < told["auc"] < 0.6, part
        assert told["tells"] == []


def test_rows_of_a_pair_are_kept_together() -> None:
    """Each pair has a word of its own in both rows: a classifier that saw one of them would take the other for it."""
    tells = Tells()
    for number in range(100):
        own = f"own{number} " * 3
        if tells.admits(str(number)):
            tells.add(str(number), Form.of(own + "a b", "c"), Form.of(own + "a b", "c"))
    assert tells.report()["parts"]["answer_first"]["accuracy"] == 0.5


@pytest.mark.parametrize(("words", "accuracy"), [("", 0.5), ("a b c", 0.75)])
def test_texts_without_a_word_tell_nothing(words: str, accuracy: float) -> None:
    """All, or the reverse ones, which then count half: the last of them is among those."""
    tells = Tells()
    for number in range(FEWEST_PAIRS):
        tells.add(str(number), Form.of(words, "c"), Form.of("", "c"))
    assert tells.report()["parts"]["answer_first"]["accuracy"] == accuracy


def test_the_fit_is_the_minimum() -> None:
    """At the minimum of the loss that the docstring names its slope is 0: held against it, fold by fold."""
    draw = random.Random(1)
    texts = [set(text(draw, 20).split()) | ({"tell"} if row % 2 and row % 3 else set()) for row in range(200)]
    grams = sorted(set().union(*texts))
    entry_texts, entry_grams, names = _entries(texts)
    sparse = _Features(entry_texts, entry_grams, len(texts), [names.index(gram) for gram in grams])
    scores = _scores(sparse)
    places = {gram: place for place, gram in enumerate(grams)}
    features = np.zeros((len(texts), len(grams)))
    for row, words in enumerate(texts):
        features[row, [places[word] for word in words]] = 1
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    assert sparse.largest_eigenvalue() >= np.linalg.norm(features, 2) ** 2
    sign = np.where(np.arange(200) % 2, 1.0, -1.0)
    for fold in range(5):
        seen = np.arange(200) // 2 % 5 != fold
        weights = np.zeros(len(grams))
        for _ in range(30):  # Newton's method
            margin = sign[seen] * (features[seen] @ weights)
            wrong = 1 / (1 + np.exp(margin))
            slope = weights - STRENGTH * features[seen].T @ (sign[seen] * wrong)
            bend = np.eye(len(grams)) + STRENGTH * (features[seen].T * (wrong * (1 - wrong))) @ features[seen]
            weights -= np.linalg.solve(bend, slope)
        assert np.allclose(scores[~seen], features[~seen] @ weights, atol=0.02)


def test_the_sample_is_bounded_and_does_not_depend_on_the_order() -> None:
    form = Form.of("an answer", "a reasoning")
    names = [f"{number:020x}" for number in range(2 * MOST_PAIRS)]
    samples = []
    for order in (names, names[::-1], random.Random(2).sample(names, len(names))):
        tells = Tells()
        for name in order:
            if tells.admits(name):
                tells.add(name, form, form)
        samples.append(sorted(entry[1] for entry in tells._sample))
        assert tells._pairs == len(names)
    assert len(samples[0]) == MOST_PAIRS
    assert samples[0] == samples[1] == samples[2] != sorted(names)[:MOST_PAIRS]


def test_the_same_rows_give_the_same_report() -> None:
    assert gathered(60, "So").report() == gathered(60, "So").report()
    json.dumps(gathered(60).report())


@pytest.mark.parametrize("pairs", [0, 1, FEWEST_PAIRS - 1])
def test_too_few_pairs_tell_nothing(pairs: int) -> None:
    report = gathered(pairs, "Answer:").report()
    assert report["parts"] == {}
    assert report["pairs"] == report["sampled"] == pairs < report["fewest"]


def test_balance_between_the_directions() -> None:
    tells = Tells()
    tells.admits("a")
    tells.add("a", Form.of("1234", "12"), Form.of("\\boxed{1}", ""))
    for row in [("forward", "math"), ("reverse", "math"), ("forward", "physics")]:
        tells.count(*row)
    report = tells.report()
    assert report["length"] == {
        "reasoning": {"forward": [2, 2, 2], "reverse": [0, 0, 0]},
        "answer": {"forward": [4, 4, 4], "reverse": [9, 9, 9]},
    }
    assert [report["boxed"][side]["share"] for side in ("forward", "reverse")] == [0, 1]
    assert report["domains"] == {"math": {"forward": 1, "reverse": 1}, "physics": {"forward": 1, "reverse": 0}}


def test_hostile_texts_are_cut_short() -> None:
    began = time.process_time()
    for hostile in ("x" * 10_000_000, "x " * 5_000_000, "\n" * 10_000_000, "\ud800 \x00 <script>"):
        form = Form.of(hostile, hostile)
        assert all(len(word) <= 40 for words in form[:4] for word in words)
        assert all(len(words) <= WORDS for words in form[:4])
    assert time.process_time() - began < 20
    tells = Tells()
    for number in range(300):
        tells.count("forward", f"domain {number}")
    assert len(tells.report()["domains"]) <= 101


def test_wilson() -> None:
    """Against the values that Newcombe (1998, table I) gives for 81 of 263, 15 of 148, 0 of 20 and 1 of 29."""
    assert wilson(81 / 263, 263) == pytest.approx([0.2553, 0.3662], abs=1e-4)
    assert wilson(15 / 148, 148) == pytest.approx([0.0624, 0.1605], abs=1e-4)
    assert wilson(0, 20) == pytest.approx([0.0, 0.1611], abs=1e-4)
    assert wilson(1 / 29, 29) == pytest.approx([0.0061, 0.1718], abs=1e-4)
