"""Images to verdicts. One filter a file; a rejected image stays on disk with its reason."""
