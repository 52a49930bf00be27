"""The left half of the Steer page: the steering set that is edited, loaded, saved and exported."""
