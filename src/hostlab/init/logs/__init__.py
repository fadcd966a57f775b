"""What jobs write: from a pipe of the holder's to a file, rotated and bounded."""
