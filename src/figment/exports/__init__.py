"""The images of a run, in the formats of others. One format a file; each is opened by its owner's own reader."""
