"""Mask → objects: numbering them, and measuring, grouping and editing them."""
