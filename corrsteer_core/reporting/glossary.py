"""The words of the report, explained, and the limits that it states."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Point:
    """A label with what is said about it."""

    label: str
    text: str


GLOSSARY = (
    Point("Activation", "How strongly a feature is present at one place of a text; 0 when it is silent."),
    Point(
        "Chance level",
        "The correlation that the best feature reaches in 1 of 20 cases when outcomes are shuffled, that is, "
        "when there is nothing to find.",
    ),
    Point("Coefficient", "How much of a feature is added when steering, in units of its own activation."),
    Point(
        "Constant per class",
        "A number added to the log-probability of every answer of one class, the same for all samples; the cheapest way to "
        "make one answer likelier, and what a set has to beat.",
    ),
    Point(
        "Controls",
        "What a set is compared with: random features that fire as often and push as hard, the set with its sign turned "
        "round, and its mean push on words, added to the unsteered model as one constant.",
    ),
    Point(
        "Correlation (r)",
        "How closely a feature's activation goes with success over the training samples: 0 not at all, 1 "
        "perfectly. It proposes; it does not prove.",
    ),
    Point(
        "Correlation within the class",
        "The same among samples with the same right answer, put together over the answers: what merely goes with one "
        "answer, which a model that leans to it gets right more often, counts for nothing. For tasks whose answers are "
        "classes.",
    ),
    Point("Effect", "The success rate with steering minus the rate without, on the same samples."),
    Point(
        "Feature",
        "A direction in the model's inner state that a sparse autoencoder has found; often, not always, it "
        "stands for something one can name.",
    ),
    Point(
        "Flip",
        "A sample whose outcome changes sides: won (wrong without steering, right with it) or lost (the other "
        "way round).",
    ),
    Point("Fluency", "How likely the model, unsteered, finds a text; in nats per token, lower is more natural."),
    Point(
        "Held back",
        "Of samples: neither ranked nor chose any feature, so they show what a choice is worth. The test samples are.",
    ),
    Point(
        "Interval (95%)",
        "The range of rates compatible with what was seen; the fewer samples, the wider (Wilson's).",
    ),
    Point("Layer", "One of the model's processing steps, numbered from 0."),
    Point(
        "Outcome",
        "What the rule of the task says of an answer: 1 is success, 0 is failure, and between where it is graded.",
    ),
    Point(
        "p",
        "How often flips this uneven come about if steering does nothing (exact McNemar test); below 0.05 is "
        "called beyond noise here.",
    ),
    Point("Prior", "How likely the model finds each answer whatever the question."),
    Point("q", "p corrected for the number of features: of those with q below 0.05, about 1 in 20 is there by chance."),
    Point(
        "Rival",
        "Another way to the same end that a set is put against: a better prompt, one constant per class, and more.",
    ),
    Point("Run", "One task answered by one model, its features read meanwhile, and everything measured from it."),
    Point("Sample", "One question of a task with its right answer, if it has one."),
    Point(
        "Scale",
        "What the coefficients of all features that are added are multiplied by; at 0 a set does nothing.",
    ),
    Point("Shifted samples", "Samples of the same task made otherwise, on which nothing was chosen."),
    Point(
        "Side effect ratio (SER)",
        "Lost flips as a share of all flips: 0 means nothing was broken, 0.5 as much broken as put right.",
    ),
    Point(
        "Sparse autoencoder (SAE)",
        "A small network trained to take a model's inner state apart into many features, few of them active at once.",
    ),
    Point(
        "Steering",
        "Changing features in the model's inner state while it writes (adding them; also holding, capping or removing "
        "them), and leaving everything else as it is.",
    ),
    Point(
        "Steering set",
        "Features, each with what is done with it and a coefficient, and one scale for those that are added.",
    ),
    Point(
        "Success rate", "Mean outcome of the samples: the share of right answers, where outcomes are right or wrong."
    ),
    Point("Support", "Number of training samples in which a feature is active."),
    Point(
        "Test samples",
        "The part of the samples that is held back, to measure on.",
    ),
    Point("Token", "A word or a piece of one; models read and write tokens."),
    Point("Validation samples", "The part of the samples on which features are tried and sets chosen."),
    Point("Verdict", "What a measurement shows, by a stated rule: works, not shown, harmful and others."),
)
