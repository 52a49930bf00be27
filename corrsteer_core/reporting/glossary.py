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
        "Controls",
        "What a set is compared with: random features that fire as often and push as hard, the set with its sign turned "
        "round, and its mean push on words, added to the unsteered model as one constant.",
    ),
    Point(
        "Correlation (r)",
        "How closely a feature's activation goes with success over the training samples: 0 not at all, 1 "
        "perfectly. It proposes; it does not prove.",
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
        "Interval (95%)",
        "The range of rates compatible with what was seen; the fewer samples, the wider (Wilson's).",
    ),
    Point("Layer", "One of the model's processing steps, numbered from 0."),
    Point(
        "p",
        "How often flips this uneven come about if steering does nothing (exact McNemar test); below 0.05 is "
        "called beyond noise here.",
    ),
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
        "Adding features to the model's inner state while it writes, and leaving everything else as it is.",
    ),
    Point("Steering set", "The features that are added together, each with its coefficient, and a scale for all."),
    Point(
        "Test samples",
        "Samples kept aside: they neither ranked nor chose any feature, so they show what a choice is worth.",
    ),
    Point("Token", "A word or a piece of one; models read and write tokens."),
)
