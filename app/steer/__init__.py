"""The Steer page: a set, a prompt, two answers side by side."""
