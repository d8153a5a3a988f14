"""What a storm is made of: kills of runs that go on, and bytes that change in files that are finished."""
