"""The sections of the dock.

A panel shows values and emits what the user wants; it decides nothing.  The dock
connects the panels with the workspace.
"""
