"""Words to prompts. One writer a file; all return the same ``Prompt`` records."""
