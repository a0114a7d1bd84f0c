"""Records to text, text to token ids and loss weights: one path for training and generation."""
