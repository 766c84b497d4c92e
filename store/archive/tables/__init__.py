"""The tables of every archive, in whichever database: rows, months, blocks, and reading a user's past."""
