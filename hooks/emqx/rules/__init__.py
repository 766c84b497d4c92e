"""Reads, renders, exports, applies and checks `emqx-rules/`."""
