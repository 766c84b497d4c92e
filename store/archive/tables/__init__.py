"""What every archive holds, whichever database it is in: rows, months, blocks, and reading a user's past."""
