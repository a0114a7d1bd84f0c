"""One function per metric; each states its unit, its direction and its source."""
