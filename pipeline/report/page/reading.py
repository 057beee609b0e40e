"""Reading help for every section of the page: what it shows, what is good, and what to do otherwise."""

from dreamset.pipeline.report.page.html import Help

RETURNS = Help(
    "Each dot is one episode of the policy in the environment; a return is the sum of its rewards. The large mark is "
    "the interquartile mean, the mean of the middle half, with its interval.",
    "Marks far to the right, near the high reference, with intervals that do not touch those of others.",
    "Wide intervals: evaluate more episodes (`evaluation.episodes`) or train more seeds. All low: read the next "
    "section first. It tells whether the model or the policy is at fault.",
)
CALIBRATION = Help(
    "Whether the models know how good they are: the return that a model imagines for its policy against the return "
    "that followed; how many true rewards lie within the spread of sampled futures, against how many should; and, "
    "where episodes truly end, the predicted probability of an end against the share of ends.",
    "Everything on the dashed line. A grey band shows what chance alone does to a perfect model.",
    "Imagined far above real: the policy exploits errors of the model; try pessimism. Coverage below the line: the "
    "model is too certain. Above: it is less certain than it could be.",
)
HORIZON = Help(
    "Each model stops observing and predicts on, under the recorded actions. The figures show how prediction decays "
    "with the number of steps. Steps are spaced logarithmically.",
    "A low error and a high R² up to the number of steps that policies look ahead (`imagination.horizon`).",
    "Bad from the first step: the model has not learned the reward; train for longer, or check the rewards on the "
    "dataset card. Bad only far ahead: normal, every world has such a horizon.",
)
PROBES = Help(
    "A linear probe recovers the true state from the model's features. No model was shown this state. R² is the share "
    "of its variance that the probe explains. The quarters divide held-out rows by reward; q4 has the best.",
    "R² near 1: the features hold the whole state. A high correlation in q4: also where the rewards are.",
    "A low R² with a high return is fine: the objective left out what the task does not need. With a low return, "
    "choose an objective that keeps more, such as `reconstruction`.",
)
TERMS = Help(
    "The mean of each term of the reward over the imagined steps of the last update. The policy maximises their sum. "
    "Weights are included.",
    "Penalties that are small beside the reward: the policy avoids what they punish.",
    "A penalty as large as the reward: the policy cannot avoid it, or does nothing else. Lower its weight "
    "(`reward.weights`), and see in its curve whether it still falls.",
)
LEARNING = Help(
    "Figures during training. Lines are means over the seeds, bands reach from the lowest to the highest seed.",
    "Curves that have become flat.",
    "Still improving at the end: train for longer (`world_model_training.updates`, `behavior_training.updates`). "
    "Getting worse: the model overfits; add data or train for less.",
)
DREAMS = Help(
    "Each model observes the first steps of held-out episodes and then predicts the rest without observations. One "
    "kind of decoder, trained afterwards on the features, draws the frames of all objectives.",
    "Frames that follow the truth after the observations stop.",
    "Blurred for all objectives: the decoder is the limit. Blurred for one: its features lack the information.",
)
POLICIES = Help(
    "The first episodes of the evaluation, with the same seeds for all objectives.",
    "The task is solved in every episode.",
    "Look for what the policy does instead. If it stands where the dream promises reward, the model is exploited.",
)
COST = Help(
    "Size of the networks and duration of the training, as mean over the seeds.",
    "Little cost for the same return.",
    "Durations compare only if the trainings ran on the same machine without other work.",
)
SETTINGS = Help(
    "All settings that are not the same for every objective.",
    "Only settings of the objectives themselves: then nothing else explains a difference in returns.",
    "If others are here, such as a learning rate, make them equal before you compare.",
)
DATA = Help(
    "The recorded episodes that all objectives learned from.",
    "Returns that reach what you want the policy to earn, and rewards in many rows.",
    "A policy seldom earns more than the best episodes. Record better ones, or more of them.",
)
ORIGIN = Help("What identifies this comparison, and the commands that make it again.", "", "")
