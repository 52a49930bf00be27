"""What several pages use: what a tab remembers, answers kept between clicks, the model."""
