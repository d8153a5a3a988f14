"""Are real images fit for a study? Looked at before anything is spent."""
