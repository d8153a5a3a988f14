"""What a run trained -> the formats of others; one file a format. Each has ``write(out, portable) -> classify``."""
