"""Images to a classifier: a head on frozen features, started from the words of the classes and tuned."""
