"""The right half of the Steer page: what is asked, and the answers."""
