"""Who is online, and who was seen."""
