"""Backbones that learn from images alone, or from images and their captions: nine methods, one loop for all."""
