"""Answers what EMQX posts: the dispatcher, and one handler for each path."""
