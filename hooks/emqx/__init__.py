"""EMQX as the service sees it: its REST API, and what is published through it."""
