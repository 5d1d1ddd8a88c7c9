"""Sampled answers: drawn as the model is, and sorted by direction."""

import html
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

from r1k_train import probe, samples
from r1k_train.data import joined
from r1k_train.samples import Sides, Sorter, shares, write_page
from r1k_train.sampling import sample
from tests.small_model import save, small_model
from tests.test_probe import preferences

PAIRS = [
    Sides(joined("speed times time gives the distance", r"The distance is \boxed{42} m."),
          joined("distance over time gives the speed", r"The speed is \boxed{7} m/s.")),
    Sides(joined("the triangle's hypotenuse, by Pythagoras", r"It is \boxed{13}."),
          joined("the missing leg, by Pythagoras backwards", r"It is \boxed{5}.")),
]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (joined("whatever", r"\boxed{42}"), ("own direction", "answer")),
        (joined("whatever", r"\boxed{42.0} m"), ("own direction", "answer")),
        (joined("whatever", r"\boxed{7}"), ("other direction", "answer")),
        ("<|im_start|>think\nwhatever\n<|im_start|>answer\nso \\boxed{7}", ("other direction", "answer")),
        (joined("speed times time", r"\boxed{41}"), ("own direction", "words")),
        (joined("distance over time, over", r"\boxed{8}"), ("other direction", "words")),
        (joined("photosynthesis needs chlorophyll and sunlight", r"\boxed{9}"), ("unrelated", "words")),
        ("", ("unrelated", "words")),
        ("<think>\nspeed times time, and time again", ("own direction", "words")),
    ],
)
def test_an_answer_is_sorted_by_its_result_or_else_by_its_words(text: str, kind: tuple[str, str]) -> None:
    with Sorter(PAIRS) as sorter:
        assert sorter.sort(text, PAIRS[0]) == kind


def test_each_reference_is_its_own_direction() -> None:
    with Sorter(PAIRS) as sorter:
        for pair in PAIRS:
            assert sorter.sort(pair.own, pair)[0] == "own direction"
            assert sorter.sort(pair.other, pair)[0] == "other direction"


def test_shares_count_pairs_once() -> None:
    rows = [{"pair_id": "a", "direction": "forward", "kind": "unrelated"}] * 3
    rows += [{"pair_id": "b", "direction": "forward", "kind": "own direction"}]
    found = shares(rows)
    assert set(found) == {"T_f", "T_m"}
    assert found["T_f"]["unrelated"].value == 0.75
    assert (found["T_f"]["unrelated"].low, found["T_f"]["unrelated"].high) == (0, 1), "two pairs, whatever they hold"
    assert sum(one.value for one in found["T_m"].values()) == pytest.approx(1)


def test_hostile_text_is_shown_and_never_run(tmp_path: Path) -> None:
    evil = "</pre><script>alert(1)</script><img src=x onerror=alert(1)> {{7*7}} \u202egnp.exe \x1b[2J" + "x" * 50_000
    row = {
        "pair_id": "<b>",
        "direction": "forward",
        "sample": 0,
        "kind": "unrelated",
        "by": "words",
        "finished": False,
        "text": evil,
    }
    path = tmp_path / "page.html"
    write_page(path, "<title>", [row], {("<b>", "forward"): "<iframe>"})
    page = path.read_text()
    body = page.split("</style>", 1)[1]
    assert "<script" not in page
    assert "<img" not in page
    assert "<iframe" not in page
    assert html.escape("</pre><script>alert(1)</script>") in body
    assert "\u202e" not in page
    assert "\x1b" not in page
    assert len(page) < 20_000


# -- drawing -------------------------------------------------------------------------------------------------------


def test_greedy_answers_are_those_of_a_plain_loop_whatever_shares_their_batch() -> None:
    model = small_model()
    prompts = [[5, 6, 7], [9], [11, 12, 13, 14, 15, 16]]
    found = sample(model, prompts, 2, most_tokens=6, end=None, pad=0, temperature=0)
    for prompt, answers in zip(prompts, found, strict=True):
        ids = list(prompt)
        for _ in range(6):
            ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
        assert answers == [tuple(ids[len(prompt) :])] * 2
    assert found == sample(model, prompts, 2, most_tokens=6, end=None, pad=0, temperature=0, tokens_at_once=1)


def test_samples_have_the_models_own_frequencies() -> None:
    """No top-k and no top-p of the model's settings cut them."""
    model = small_model()
    model.generation_config.top_k, model.generation_config.top_p = 1, 0.1
    state = torch.random.get_rng_state()
    drawn = sample(model, [[5, 6]], 2000, most_tokens=1, end=None, pad=0, seed=3)[0]
    assert torch.equal(state, torch.random.get_rng_state())
    chances = model(torch.tensor([[5, 6]])).logits[0, -1].softmax(-1).detach()
    counts = torch.bincount(torch.tensor([answer[0] for answer in drawn]), minlength=len(chances)) / len(drawn)
    assert (counts - chances).abs().sum() / 2 < 0.15
    assert len(set(drawn)) > 50


def test_an_answer_stops_at_its_end() -> None:
    model = small_model()
    first = sample(model, [[5, 6, 7]], 1, most_tokens=8, end=None, pad=0, temperature=0)[0][0]
    ended = sample(model, [[5, 6, 7], [9]], 1, most_tokens=8, end=first[2], pad=0, temperature=0)[0][0]
    assert ended == first[: first.index(first[2]) + 1]


def test_the_command_writes_answers_and_their_shares(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import pyarrow as pa

    pq.write_table(pa.Table.from_pylist(preferences()), tmp_path / "pairs.parquet")
    model = save(tmp_path / "model", context=300)
    words = ["--model", str(model), "--dataset_name", str(tmp_path / "pairs.parquet"), "--output", str(tmp_path / "out")]
    words += ["--generate", "3", "--max_new_tokens", "12", "--dtype", "float32", "--windows", "8"]
    assert probe.main(words) == 0
    rows: list[dict[str, Any]] = pq.read_table(tmp_path / "out" / "samples.parquet").to_pylist()
    assert len(rows) == 6 * 3
    assert {(row["pair_id"], row["direction"]) for row in rows} == {(row["pair_id"], row["direction"]) for row in preferences()}
    assert all(0 < row["tokens"] <= 12 for row in rows)
    point = json.loads((tmp_path / "out" / probe.SUMMARY).read_text())["points"][0]
    counted = [sum(row["kind"] == kind for row in rows) / len(rows) for kind in samples.SORTS]
    assert [point["answers"]["T_m"][kind]["value"] for kind in samples.SORTS] == pytest.approx(counted)
    assert "unrelated" in capsys.readouterr().out
    assert (tmp_path / "out" / probe.PAGE).read_text().count("<h2>") == 18
    assert probe.main([*words[:-8], "--generate", "0"]) == 2
    assert "count from 1" in capsys.readouterr().err
