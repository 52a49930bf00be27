"""A causal language model: loading it, where its hook points are, and how a prompt is put to it."""
