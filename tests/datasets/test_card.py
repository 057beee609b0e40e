from dreamset.datasets.card import summary_markdown


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
