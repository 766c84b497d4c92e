"""A campaign of faults against the whole service, and the checker that judges what its users were promised."""
