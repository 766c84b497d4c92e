"""How HTTP is served: connections accepted, bounded and read, EMQX's in front, everything else by aiohttp."""
