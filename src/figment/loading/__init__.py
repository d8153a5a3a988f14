"""Images to training batches: seeded orders that can be taken up again anywhere, and the loader that follows them."""
