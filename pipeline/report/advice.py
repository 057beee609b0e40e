"""What the figures of a comparison mean, in plain words: the winner, and hints for each objective.

Every rule has its threshold here, and says it in words. The thresholds are rules of thumb for a reader, and nothing is
decided by them.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from dreamset.pipeline.evaluation.statistics import coverage_note
from dreamset.pipeline.report.calibration import Calibration, Coverage, Ends
from dreamset.pipeline.report.comparison import Comparison
from dreamset.pipeline.report.exploitation import GAP, REMEDY, is_exploited
from dreamset.pipeline.report.headline import Row, interval_of, known, tied
from dreamset.pipeline.report.metrics import label
from dreamset.pipeline.report.words import number

COLLAPSED_NATS = 0.1  # a posterior that adds less per step than this has collapsed
POOR_PROBE = 0.5  # R^2 below which a state lacks much of the true state
INTERVAL = 0.8  # nominal share of the interval by which a spread is judged
OVERCONFIDENT = 0.2  # shares that the interval may miss


def winner(comparison: Comparison) -> str:
    """One sentence on which objective earned most, and whether the intervals separate it from the others."""
    rows = [row for row in comparison.rows() if known(row, "return_iqm")]
    if not rows:
        return _best_model(comparison)
    best = max(rows, key=lambda row: row["return_iqm"])
    score = f"{best['return_iqm']:.1f} ({interval_of(best)})"
    if len(rows) == 1:
        return f"{best['objective']} earned {score}. There is no other objective to compare it with."
    near = [str(row["objective"]) for row in tied(rows) if row["objective"] != best["objective"]]
    if not near:
        return f"{best['objective']} earned most: {score}. Its interval lies above those of all others."
    return f"{best['objective']} is ahead with {score}, but its interval overlaps that of {listed(near)}: a tie so far."


def _best_model(comparison: Comparison) -> str:
    """One sentence on which model predicts best, for policies that were not tried: rewards or, without any, frames."""
    error = comparison.reward_error if comparison.rewarded else "open_loop_mse"
    rows = [row for row in comparison.rows() if known(row, error)]
    if not rows:
        return "Neither a return nor an error of the predictions was measured, so no objective wins."
    best = min(rows, key=lambda row: row[error])
    what = "rewards best" if comparison.rewarded else "observations best, as the data have no rewards"
    return (
        f"No policy was tried, so no return was measured. {best['objective']} predicts {what} "
        f"({label(f'validation/{error}')} {number(best[error], 4)})."
    )


def listed(names: Sequence[str]) -> str:
    """``a``, ``a and b``, or ``a, b and c``."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def caveats(comparison: Comparison) -> list[str]:
    """What limits every conclusion from this comparison."""
    measured = any(known(row, "return_iqm") for row in comparison.rows())
    note = coverage_note(len(comparison.seeds)) if measured else ""
    more = "For a conclusion that holds for other seeds, run more of them: `seeds: [0, 1, 2]` in params.yaml."
    return [*([f"{note} {more}"] if note else []), *_unevaluated(comparison)]


def _unevaluated(comparison: Comparison) -> Iterator[str]:
    seeds, remedy = len(comparison.seeds), "`dvc repro` evaluates policies, if the dataset has an environment."
    without = [name for name in comparison.objectives if not comparison.returns.get(name)]
    some = [name for name in comparison.objectives if 0 < len(comparison.returns.get(name, ())) < seeds]
    if without:
        yield f"{listed(without)}: no policy was evaluated, so returns are missing. {remedy}"
    if some:
        yield f"{listed(some)}: fewer than {seeds} seeds were evaluated. {remedy}"


@dataclass(frozen=True, slots=True)
class Facts:
    """What rules need beside the figures of one objective."""

    scale: float | None  # of returns
    scale_in_words: str
    data: float | None  # mean return of the recorded episodes
    high: float | None  # return of the high reference policy
    horizon: int
    calibration: dict[str, Calibration]

    @classmethod
    def of(cls, comparison: Comparison) -> "Facts":
        """The facts about a comparison."""
        references = comparison.references
        distance = _distance_of_references(comparison)
        words = "range of all returns" if distance is None else "distance of the two reference policies"
        data, high = references.get("dataset mean"), references.get("high reference")
        calibration = dict(comparison.calibration)
        return cls(return_scale(comparison), words, data, high, comparison.horizon, calibration)

    @property
    def gap(self) -> str:
        """The largest gap between imagined and real return that passes, in words."""
        size = "unknown" if self.scale is None else f"{GAP * self.scale:.4g}"
        return f"{100 * GAP:.0f} % of the {self.scale_in_words} ({size})"


def return_scale(comparison: Comparison) -> float | None:
    """The distance of the reference policies, or the range of the returns; None without both."""
    distance = _distance_of_references(comparison)
    if distance is not None:
        return distance
    values = [float(v) for groups in comparison.returns.values() for group in groups for v in group if math.isfinite(v)]
    return (max(values) - min(values)) or max(abs(values[0]), 1.0) if values else None


def _distance_of_references(comparison: Comparison) -> float | None:
    low, high = (comparison.references.get(f"{name} reference") for name in ("low", "high"))
    return None if low is None or high is None or high == low else abs(high - low)


def exploited(comparison: Comparison) -> list[str]:
    """The objectives whose policies earn far less than their models imagine."""
    facts = Facts.of(comparison)
    return [str(row["objective"]) for row in comparison.rows() if _exploited(row, facts) is not None]


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule of thumb about one objective."""

    name: str
    words: Callable[[Facts], str]  # when it applies, with its threshold
    finding: Callable[[Row, Facts], str | None]  # a sentence with the figures; None if the rule does not apply
    advice: str = ""  # what the finding means and what to try

    def findings(self, comparison: Comparison, facts: Facts) -> dict[str, str]:
        """The sentence for each objective to which the rule applies."""
        found = {str(row["objective"]): self.finding(row, facts) for row in comparison.rows()}
        return {name: text for name, text in found.items() if text is not None}


def hints(comparison: Comparison) -> list[str]:
    """Sentences about what stands out, each with what it means or what to try."""
    facts = Facts.of(comparison)
    lines = []
    for rule in RULES:
        findings = [f"{name}: {text}" for name, text in rule.findings(comparison, facts).items()]
        lines += [" ".join([*findings, rule.advice]).rstrip()] if findings else []
    return [*lines, *_of_horizons(comparison)]


def rules(comparison: Comparison) -> list[tuple[str, str, list[str]]]:
    """Every rule: its name, when it applies, and the objectives to which it applies."""
    facts = Facts.of(comparison)
    table = [(rule.name, rule.words(facts), list(rule.findings(comparison, facts))) for rule in RULES]
    every = comparison.objectives if any(_of_horizons(comparison)) else []
    return [*table, ("beyond prediction", "a horizon at which no objective has a probe R² above 0", every)]


def _exploited(row: Row, facts: Facts) -> str | None:
    gap = _gap(row)
    if gap is None or facts.scale is None or not is_exploited(row["imagined_return"], row["real_return"], facts.scale):
        return None
    return gap


def _underrated(row: Row, facts: Facts) -> str | None:
    gap = _gap(row)
    if gap is None or facts.scale is None or row["real_return"] - row["imagined_return"] <= GAP * facts.scale:
        return None
    return gap


def _gap(row: Row) -> str | None:
    if not (known(row, "imagined_return") and known(row, "real_return")):
        return None
    return f"imagined {row['imagined_return']:.1f}, real {row['real_return']:.1f}."


def _collapsed(row: Row, _: Facts) -> str | None:
    if not known(row, "kl") or row["kl"] >= COLLAPSED_NATS:
        return None
    return f"observations add only {row['kl']:.2f} nats per step, so the posterior has collapsed."


def _poor_state(row: Row, _: Facts) -> str | None:
    if not known(row, "probe_r2") or row["probe_r2"] >= POOR_PROBE:
        return None
    return f"a linear probe recovers {100 * max(row['probe_r2'], 0):.0f} % of the true state's variance."


def _reaches_expert(row: Row, facts: Facts) -> str | None:
    if facts.high is None or not known(row, "return_iqm_high"):
        return None
    if facts.high <= (-math.inf if facts.data is None else facts.data) or row["return_iqm_high"] < facts.high:
        return None
    return f"its interval reaches the high reference policy ({facts.high:.1f})."


def _below_data(row: Row, facts: Facts) -> str | None:
    if facts.data is None or not known(row, "return_iqm_high") or row["return_iqm_high"] >= facts.data:
        return None
    return f"the policy earns less than the recorded episodes do on average ({facts.data:.1f})."


def _overconfident(row: Row, facts: Facts) -> str | None:
    reward = facts.calibration.get(str(row["objective"]), Calibration()).reward
    seen = reward.at(facts.horizon, INTERVAL) if isinstance(reward, Coverage) else None
    if seen is None or seen >= INTERVAL - OVERCONFIDENT:
        return None
    return (
        f"only {100 * seen:.0f} % of the true rewards lie in the interval that should hold {100 * INTERVAL:.0f} %, "
        f"{facts.horizon} steps ahead."
    )


def _ends_unknown(row: Row, facts: Facts) -> str | None:
    ends = facts.calibration.get(str(row["objective"]), Calibration()).ends
    if not isinstance(ends, Ends) or not ends.ends or ends.brier < ends.brier_of_rate:
        return None
    return "its predicted ends are no better than always predicting their share."


RULES = (
    Rule(
        "exploited model",
        lambda facts: f"imagined return more than {facts.gap} above the real one",
        _exploited,
        REMEDY,
    ),
    Rule(
        "underrated policy",
        lambda facts: f"imagined return more than {facts.gap} below the real one",
        _underrated,
        "The model predicts too little reward, so the policy may miss what pays. Look at the reward error, and at "
        "episodes with high rewards.",
    ),
    Rule(
        "posterior collapse",
        lambda _: f"KL below {COLLAPSED_NATS:g} nats per step",
        _collapsed,
        "Try fewer free nats, a larger weight of the objective, or another learning rate.",
    ),
    Rule(
        "poor state",
        lambda _: f"probe R² below {POOR_PROBE:g}",
        _poor_state,
        "The features lack much of the state, which matters unless the reward does not depend on it.",
    ),
    Rule(
        "overconfident model",
        lambda facts: (
            f"fewer than {100 * (INTERVAL - OVERCONFIDENT):.0f} % of the true rewards in the interval that should hold "
            f"{100 * INTERVAL:.0f} %, {facts.horizon} steps ahead"
        ),
        _overconfident,
        "The model is more certain than it should be, so do not read its spread as its error. An ensemble measures "
        "what it does not know: `world_model/ensemble=priors`.",
    ),
    Rule(
        "ends unknown",
        lambda _: "Brier score of ends not below that of always predicting their share",
        _ends_unknown,
        "Imagined returns count rewards after ends that the model misses. Give it more episodes with true ends, or "
        "train it for longer.",
    ),
    Rule(
        "as good as the high reference",
        lambda facts: f"interval reaches the return of the high reference policy{_value(facts.high)}",
        _reaches_expert,
    ),
    Rule(
        "worse than the data",
        lambda facts: f"interval lies below the mean return of the recorded episodes{_value(facts.data)}",
        _below_data,
        "Behaviour cloning is a useful baseline here: `behavior=cloning behavior_training=cloning`.",
    ),
)


def _value(reference: float | None) -> str:
    return " (unknown)" if reference is None else f" ({reference:.1f})"


def _of_horizons(comparison: Comparison) -> Iterator[str]:
    curves = comparison.horizons.groupby("horizon")["probe_r2"].max()
    lost = [int(horizon) for horizon, value in curves.items() if math.isfinite(value) and value <= 0]  # type: ignore[call-overload]
    if lost:
        yield (
            f"From {min(lost)} steps on, no model predicts the true state better than its mean would (R² of 0 or "
            "less). Errors beyond that horizon do not separate the objectives."
        )
