"""Serves HTTP: accepts, limits and reads connections, EMQX's requests in front, everything else by aiohttp."""
