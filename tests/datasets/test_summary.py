"""The closing lines of an ingestion fit a terminal and state what the store holds."""

from dataclasses import replace

import numpy as np
import pytest

from dreamset.core.spec import ActionSpec
from dreamset.datasets import write_store
from dreamset.datasets.summary import closing_lines, facts


def test_facts_state_counts_columns_ranges_and_ends(make_store):
    assert facts(make_store(3, 5, 4)) == [
        ("episodes", "3 (2 train, 1 validation), 12 transitions, 3 to 5 per episode"),
        ("observations", "image (image 2 x 3 x 1), state (vector of 2, -2004 to 2004)"),
        ("privileged", "clock (vector of 1)"),
        ("action", "continuous, size 1, seen 0.25 to 2003, allowed 0 to inf"),
        ("reward", "0.5 to 2004, not 0 in 100 % of the transitions; returns 4.5 to 8008"),
        ("ends", "2 true ends, 1 time limits"),
    ]


def test_facts_name_what_is_left_out_quarantined_and_ignored(make_store):
    store = make_store(3, 5, 4)
    ignored = {f"column{number:02}": "not selected" for number in range(14)}
    lost = {"episodes": 2, "transitions": 2, "reward": 7.5, "terminals": 1}
    store.info = {
        **store.info,
        "lost": lost,
        "quarantined": [{"episode": 3, "reason": "bad"}],
        "source": {"ignored_columns": ignored},
    }
    texts = dict(facts(store))
    assert texts["left out"].startswith("2 last transitions")
    assert "1 true ends and a reward of 7.5" in texts["left out"]
    assert texts["quarantined"] == "1 of 4 episodes; the card says why"
    assert texts["ignored"].endswith("column11 and 2 more columns")


def test_facts_count_the_choices_of_discrete_actions(tmp_path, counter_source):
    class Discrete(counter_source):
        def describe(self):
            return replace(super().describe(), action=ActionSpec(3, True, (0.0,) * 3, (1.0,) * 3))

    def choose(number, episode):
        return replace(episode, actions=np.eye(3, dtype=np.float32)[[number, 2, 2]])

    store = write_store(Discrete([3, 3], choose), tmp_path / "store")
    assert dict(facts(store))["action"] == "discrete, 3 choices, 3 of them taken"


@pytest.mark.parametrize(
    ("size", "text"), [(2, "seen (0 to 4), (1 to 5), allowed -9 to 9"), (5, "seen 0 to 8, allowed -9 to 9")]
)
def test_ranges_of_a_few_action_elements_are_listed(tmp_path, counter_source, size, text):
    class Wide(counter_source):
        def describe(self):
            return replace(super().describe(), action=ActionSpec(size, False, (-9.0,) * size, (9.0,) * size))

    def widen(number, episode):
        rows = 2 * np.arange(3) if number else np.zeros(3)
        return replace(episode, actions=(rows[:, None] + np.arange(size)).astype(np.float32))

    store = write_store(Wide([3, 3], widen), tmp_path / "store")
    assert dict(facts(store))["action"] == f"continuous, size {size}, {text}"


def test_facts_of_an_older_store_leave_out_what_it_does_not_tell(make_store):
    store = make_store(3, 5, 4)
    store.info = {name: value for name, value in store.info.items() if name not in ("seen", "lost", "doubts")}
    texts = dict(facts(store))
    assert texts["action"] == "continuous, size 1"
    assert texts["reward"] == "returns 4.5 to 8008"
    assert "ends" not in texts


def test_closing_lines_fit_a_terminal_and_end_with_warnings(make_store):
    store = make_store(3, 5, 4)
    store.info = {**store.info, "doubts": ["word " * 60]}
    lines = closing_lines(store, "counter", {"card": "cards/counter/card.md"})
    assert lines[0] == "counter"
    assert "  card          cards/counter/card.md" in lines
    warnings = lines[lines.index("  card          cards/counter/card.md") + 1 :]
    assert warnings[0].startswith("warning: word word")
    assert all(len(line) <= 100 for line in lines)
    assert len([line for line in warnings if line.startswith("warning: ")]) == 1 + 1  # and one about large rewards
