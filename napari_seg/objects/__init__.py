"""Single objects instead of classes: found, told apart, followed through a stack."""
