"""Masks become objects: found, told apart, stitched, measured."""
