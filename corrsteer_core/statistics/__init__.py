"""Statistics of outcomes, classes and sparse activations: arrays in, numbers out; no model, no storage, no text for users."""
