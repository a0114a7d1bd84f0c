"""What the bundled base model is made of: a tokenizer and blocks of text."""
