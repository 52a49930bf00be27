"""The work on tokens: generating, pooling and steering, batch by batch."""
