"""What a run of hundreds of thousands of shards asks, told as a page."""
