"""From pooled activations to what goes with the outcome, and how surely. Loads no torch."""
