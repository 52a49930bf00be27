"""What a steering set is made of."""
