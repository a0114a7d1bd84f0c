"""Reads run folders, checks that they can be compared, and says what differs and how surely."""
