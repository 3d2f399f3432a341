"""Masks become objects: found, told apart, edited, measured."""
