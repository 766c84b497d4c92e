"""`emqx-im chat`: a conversation in the terminal."""
