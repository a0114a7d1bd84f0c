"""What a data set holds, and what a model would be trained on: measured row by row."""
