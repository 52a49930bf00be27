"""The Evaluate page: sets measured beside their controls."""
