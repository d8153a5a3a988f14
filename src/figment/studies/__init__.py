"""Many runs of one recipe, and what they say together; or the first of one run, and what it says of the rest."""
