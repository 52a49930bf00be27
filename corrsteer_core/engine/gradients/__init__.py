"""What a small steering vector would change: gradients at the generation positions, and their sums over samples."""
