from typing import Any

import pytest

from dreamset.datasets.card import plain, short, summary_markdown


def test_card_has_counts_columns_source_and_checksums(make_store):
    store = make_store(3, 5, 4, validation_fraction=0.34)
    card = summary_markdown(store)
    assert "3 episodes, 12 transitions, 15 rows" in card
    assert "| image | observation | 2 x 3 x 1 | uint8 |" in card
    assert "| clock | privileged | 1 | float32 |" in card
    assert "| format | counter |" in card
    assert store.info["shards"][0]["sha256"] in card
    validation = store.split("validation")
    mean = store.returns[validation].mean()
    assert f"| validation | 1 | return | {mean:.4g} | 0 |" in card


def test_card_escapes_values_that_would_break_the_table(make_store):
    store = make_store(3, 3)
    store.info["source"]["description"] = "a | b\nc" + "x" * 1000
    lines = summary_markdown(store).splitlines()
    cells = next(line for line in lines if line.startswith("| description"))
    assert "a \\| b c" in cells
    assert len(cells) < 350


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        ({}, "-"),
        ([], "-"),
        ("", "-"),
        (0, "0"),
        (False, "no"),
        (88.76153050989713, "88.7615"),
        (["Dreamset", "others"], "Dreamset, others"),
        ([[1, 2], [3]], "(1, 2), (3)"),
        ({"shape": [3, 4], "more": {"a": None}}, "shape: 3, 4; more: (a: -)"),
        ({"kind": "numbers", "parts": [{"name": "", "shape": [1]}]}, "kind: numbers; parts: (name: -; shape: 1)"),
    ],
)
def test_values_of_json_are_shown_in_words(value: Any, text: str) -> None:
    assert plain(value) == text


def test_card_has_no_value_in_the_notation_of_python(make_store):
    store = make_store(3, 3)
    store.info["source"] |= {"env_id": None, "author": ["a"], "actions": {"kind": "numbers", "parts": [{"x": True}]}}
    card = summary_markdown(store)
    assert "| env_id | - |" in card
    assert "| author | a |" in card
    assert "| actions | kind: numbers; parts: (x: yes) |" in card
    assert not any(sign in card for sign in ("None", "True", "['", "{'", "[]", "{}"))


@pytest.mark.parametrize(("value", "text"), [(0.486, "0.486"), (9999.4, "9999"), (-12345.6, "-12,346")])
def test_large_figures_have_no_exponent(value: float, text: str) -> None:
    assert short(value) == text
