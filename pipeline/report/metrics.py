"""What every metric means: its label, its explanation, and which direction is better.

Tables, figures, pages and the documentation take their words from here. An unlisted metric is shown by its name.
"""

import re
from dataclasses import dataclass
from typing import Literal

Better = Literal["higher", "lower", "neither"]


@dataclass(frozen=True, slots=True)
class Metric:
    """The words for one metric, or for a family of metrics."""

    pattern: str  # regular expression for the whole name, as in metrics.json
    label: str  # short, for a column; may contain groups of the pattern, such as \\1
    meaning: str  # one sentence for a reader who has never met it
    better: Better = "neither"
    unit: str = ""
    digits: int = 3  # decimals in a table
    headline: bool = False  # whether it is among the few figures by which objectives are compared at first sight

    def named(self, name: str) -> str | None:
        """The label of the metric with this name; None if the pattern does not fit."""
        match = re.fullmatch(self.pattern, name)
        return None if match is None else match.expand(self.label)


METRICS = (
    Metric(
        r"evaluation/return_iqm",
        "return (IQM)",
        "Interquartile mean of the undiscounted returns of the policy's episodes in the environment.",
        "higher",
        digits=1,
        headline=True,
    ),
    Metric(
        r"evaluation/return_iqm_(low|high)",
        r"return (IQM), \1",
        "Bound of the bootstrap interval of the interquartile mean.",
        "higher",
        digits=1,
    ),
    Metric(r"evaluation/return_mean", "return (mean)", "Mean undiscounted return of the episodes.", "higher", digits=1),
    Metric(
        r"evaluation/return_mean_(low|high)",
        r"return (mean), \1",
        "Bound of the bootstrap interval of the mean return.",
        "higher",
        digits=1,
    ),
    Metric(
        r"evaluation/success_rate",
        "success",
        "Share of the episodes that reach their goal within the time limit, as the environment tells it.",
        "higher",
        digits=2,
    ),
    Metric(
        r"evaluation/success_rate_(low|high)",
        r"success, \1",
        "Bound of the bootstrap interval of the success rate.",
        "higher",
        digits=2,
    ),
    Metric(
        r"evaluation/normalized_mean",
        "normalised return",
        "Mean return on a scale where 0 and 100 are the mean returns of the low and the high reference policy.",
        "higher",
        digits=0,
    ),
    Metric(
        r"evaluation/policy_return_iqm",
        "return of its best policy",
        "Interquartile mean of the returns in the environment of the best policy that was learned in the world model.",
        "higher",
        digits=1,
    ),
    Metric(
        r"evaluation/imagined_return",
        "imagined return",
        "Return after the first observed rows, as the model predicts it for the policy.",
        digits=1,
        headline=True,
    ),
    Metric(
        r"evaluation/real_return",
        "real return",
        "Return of the same episodes after the same rows, as measured in the environment. "
        "An imagined return far above it means that the policy exploits errors of the model.",
        "higher",
        digits=1,
        headline=True,
    ),
    Metric(r"evaluation/dataset_return", "return of the dataset", "Mean return of the recorded episodes.", digits=1),
    Metric(
        r"validation/reward_error_h0",
        "reward error, filtered",
        "Squared error of the predicted reward at states that have seen their own observation.",
        "lower",
        digits=4,
    ),
    Metric(
        r"validation/reward_error_h15",
        "reward error +15",
        "Squared error of the reward that the model predicts 15 steps after its last observation.",
        "lower",
        digits=4,
        headline=True,
    ),
    Metric(
        r"validation/reward_error_h(\d+)",
        r"reward error +\1",
        "Squared error of the reward that the model predicts this many steps after its last observation.",
        "lower",
        digits=4,
    ),
    Metric(
        r"validation/mean_reward_error_to_h(\d+)",
        r"mean reward error to +\1",
        "Mean squared error of the predicted reward over this many steps after the last observation.",
        "lower",
        digits=4,
    ),
    Metric(
        r"validation/probe_r2",
        "probe R²",
        "Share of the true state's variance that a linear probe recovers from the model's features; 1 is all of it.",
        "higher",
        headline=True,
    ),
    Metric(
        r"validation/probe_r2\.(.+)",
        r"probe R², \1",
        "The same for one quantity of the true state.",
        "higher",
    ),
    Metric(
        r"validation/probe_r2_h(\d+)(\..+)?",
        r"probe R² +\1\2",
        "The same, this many steps after the last observation.",
        "higher",
    ),
    Metric(
        r"validation/probe_correlation_reward_(q[1-4])(\..+)?",
        r"probe correlation, \1 of reward\2",
        "Correlation of the probe with the truth in one quarter of the rows by reward; q4 has the highest rewards.",
        "higher",
        digits=2,
    ),
    Metric(
        r"validation/continue_brier_h(\d+)",
        r"error of the end +\1",
        "Brier score of the predicted probability that the episode goes on.",
        "lower",
        digits=4,
    ),
    Metric(
        r"validation/open_loop_mse",
        "open-loop error",
        "Mean squared error of open-loop predicted observations, decoded by the same kind of probe for all objectives.",
        "lower",
        digits=4,
    ),
    Metric(
        r"validation/kl",
        "KL",
        "Nats per step that an observation adds to what the model predicted. Near zero, the posterior has collapsed.",
        unit="nats",
        digits=2,
    ),
    Metric(
        r"validation/reconstruction_error",
        "reconstruction error",
        "Mean squared error of the decoded observations: pixels from 0 to 1, and standardised vectors.",
        "lower",
    ),
    Metric(
        r"validation/consistency",
        "one-step error of the latent",
        "Squared error of the next row's latent state that TD-MPC predicts, as a share of the variance over all rows.",
        "lower",
        digits=4,
    ),
    Metric(
        r"validation/prediction",
        "error of the next frame",
        "Squared error of the next row's standardised features, which a model of patch features predicts from the last "
        "rows.",
        "lower",
        digits=4,
    ),
    Metric(
        r"validation/prediction_share",
        "error of the next frame, share",
        "The same as a share of the error of predicting that nothing changes. At 1 the dynamics have learned nothing.",
        "lower",
    ),
    Metric(
        r"validation/latent_std",
        "spread of the latents",
        "Standard deviation of TD-MPC's latent state over all rows. Near zero, the latents have collapsed.",
    ),
    Metric(r"cost/parameters", "parameters", "Trained parameters of the world model and its objective.", digits=0),
    Metric(r"cost/updates", "updates of the model", "Gradient steps of the world model.", digits=0),
    Metric(r"cost/train_seconds", "training of the model", "Duration of the training.", "lower", "s", 0),
    Metric(r"cost/behavior_seconds", "training of the policy", "Duration of the training.", "lower", "s", 0),
    Metric(r"cost/behavior_updates", "updates of the policy", "Gradient steps of the policy.", digits=0),
    Metric(r"cost/(\w+)_threads", r"threads (\1)", "Threads of the training.", digits=0),
    Metric(
        r"cost/decision_milliseconds",
        "time per decision",
        "Time of the policy or planner for one action of one episode, without the environment. Several episodes are "
        "decided at once.",
        "lower",
        "ms",
        2,
    ),
    Metric(
        r"cost/decisions_per_second",
        "decisions per second",
        "Actions that the policy or planner chooses per second, over all episodes that are decided at once.",
        "higher",
        digits=0,
    ),
    Metric(r"cost/decision_episodes", "episodes at once", "Episodes that are decided in one batch.", digits=0),
    Metric(r"cost/finetune_seconds", "fine-tuning", "Duration of the updates.", "lower", "s", 0),
    Metric(r"cost/finetune_updates", "updates of fine-tuning", "Gradient steps of model and policy.", digits=0),
    Metric(r"imagination/reward", "imagined reward", "Reward per imagined step, as the model predicts it.", "higher"),
    Metric(r"imagination/penalty", "penalty", "Pessimism: what an imagined step costs where the model is uncertain."),
    Metric(
        r"imagination/irreversibility",
        "irreversibility",
        "What an imagined step costs on average, because recorded episodes do not come back from such steps.",
    ),
    Metric(
        r"reversibility/order_accuracy",
        "order of rows",
        "Share of pairs of recorded rows whose order the precedence estimator tells; one half is a guess.",
    ),
    Metric(
        r"reversibility/recorded_irreversibility",
        "recorded irreversibility",
        "Mean irreversibility psi of recorded steps. Near 1 every step looks one-way, as in demonstrations.",
    ),
    Metric(
        r"imagination/disagreement",
        "curiosity",
        "Bonus of an imagined step where the members of the ensemble disagree.",
    ),
    Metric(r"imagination/lambda_return", "lambda-return", "Mean target of the critic in imagination.", digits=2),
    Metric(
        r"imagination/action_entropy",
        "entropy of actions",
        "Entropy of the policy; near its minimum the policy explores no more.",
        digits=2,
    ),
    Metric(r"imagination/return_scale", "scale of returns", "Range of returns that the actor's loss divides by."),
    Metric(r"imagination/(.+)", r"imagined \1", "Mean of one term of the reward function in imagination."),
    Metric(
        r"replay/q_data",
        "Q of recorded actions",
        "Mean discounted return that the critics expect of the recorded actions.",
        digits=2,
    ),
    Metric(
        r"replay/q_policy",
        "Q of the policy",
        "Mean discounted return that the critics expect of the policy's actions in recorded states. Far above that of "
        "the recorded actions, the critics over-estimate actions that were never taken.",
        digits=2,
    ),
    Metric(r"replay/td_error", "TD error", "Mean distance of the critics from their targets.", "lower"),
    Metric(
        r"replay/conservative_gap",
        "conservative gap",
        "How far the critics rate all actions above the recorded ones; the conservative loss lowers it.",
        digits=2,
    ),
    Metric(r"replay/entropy", "entropy of actions", "Entropy of the policy in recorded states, in nats.", digits=2),
    Metric(r"replay/temperature", "temperature", "Weight of the policy's entropy, tuned towards a target entropy."),
    Metric(
        r"replay/trace",
        "trace",
        "Mean factor by which Retrace follows a recorded action; near zero, targets look only one step ahead.",
        digits=2,
    ),
    Metric(r"cloning/log_prob", "log-likelihood", "Log-density of the recorded actions.", "higher", digits=2),
    Metric(r"diffusion/planner_error", "noise error of plans", "Squared error of the noise; 1 knows nothing.", "lower"),
    Metric(
        r"diffusion/inverse_dynamics_error",
        "noise error of actions",
        "Squared error of the noise; 1 knows nothing.",
        "lower",
    ),
    Metric(
        r"held_out/action_error",
        "action error, held out",
        "Squared error of the actions that the inverse dynamics model samples between recorded latents, as a share of "
        "the actions' variance. 1 or more is no better than the mean action.",
        "lower",
    ),
    Metric(
        r"held_out/plan_error",
        "plan error, held out",
        "Squared error of sampled plans, as a share of the squared distance between the recorded latents and the "
        "present one. 1 or more is no better than a plan to stay. Where experts differ, plans differ, too.",
        "lower",
    ),
    Metric(r"replay/critic_loss", "critic loss, recorded", "Loss of the critic on recorded rows.", "lower"),
    Metric(r"replay/(.+)", r"recorded \1", "Mean of one term of the reward function on arrival in recorded rows."),
    Metric(r"loss/(.+)", r"loss: \1", "One term of the loss that training minimises.", "lower"),
    Metric(r"gradient_norm/(.+)", r"gradient norm: \1", "Norm of a network's gradient before clipping.", digits=2),
    Metric(r"finetune/dip", "dip", "Largest fall of the return below that of the offline policy.", "lower", digits=1),
    Metric(r"finetune/improvement", "improvement", "Return after fine-tuning minus that before.", "higher", digits=1),
    Metric(
        r"finetune/offline_return_iqm(_low|_high)?",
        r"offline return\1",
        "Return of the policy before fine-tuning.",
        "higher",
        digits=1,
    ),
    Metric(r"finetune/environment_steps", "steps online", "Steps in the environment.", digits=0),
    Metric(r"finetune/episodes", "episodes online", "Episodes in the environment.", digits=0),
)


_OF_LEARNER = ("lambda_return", "action_entropy", "return_scale")  # figures in imagination that are no terms


def is_reward_term(name: str) -> bool:
    """Whether the metric is the mean of one term of the reward function in imagination."""
    section, _, term = name.partition("/")
    return section == "imagination" and term not in _OF_LEARNER


def metric(name: str) -> Metric:
    """The words for the metric with this name, the first entry that fits; for an unlisted one, its own name."""
    found = next((entry for entry in METRICS if entry.named(name) is not None), None)
    return found or Metric(re.escape(name), name.replace("\\", r"\\"), "")


def label(name: str) -> str:
    """The short label of a metric."""
    return metric(name).named(name) or name
