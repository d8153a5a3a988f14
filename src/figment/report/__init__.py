"""Results -> one self-contained HTML page.

``page`` holds what the page shows (``Report`` and its parts), ``render`` and ``write``; ``charts`` draws SVG; ``text`` formats numbers.
"""
