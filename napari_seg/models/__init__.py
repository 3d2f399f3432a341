"""What predicts: architectures, their files, and how they are made."""
