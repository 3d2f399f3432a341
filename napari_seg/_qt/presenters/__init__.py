"""What connects the panels with the workspace, one presenter for each panel.

A presenter turns state into what its panel shows, and what its panel emits into calls
of the workspace; it keeps no state of its own.
"""
