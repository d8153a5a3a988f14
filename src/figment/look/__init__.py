"""The curation page: a run's images in a browser, and a person's word on each of them."""
