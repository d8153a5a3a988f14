"""What a backbone is good for: the evaluations of the literature, each on its data set's own published layout."""
