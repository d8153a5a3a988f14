"""Prompts to images. A generator takes texts and seeds; each image depends on its own two alone."""
