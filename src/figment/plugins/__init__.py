"""Objects of users' own at the seam: loaded by name, checked in what they return, and blamed by their own name and line.

A plug-in is ``kind: package.module:Name`` in a recipe: something that is called with ``options`` and, where it has a
parameter ``given``, with what the built-in ones are built from (see ``figment.recipe.given``). What that returns is the
filter, writer, generator or learner. Everything a plug-in does wrong is one `FigmentError`.
"""
