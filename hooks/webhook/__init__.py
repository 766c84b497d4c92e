"""What EMQX posts: the dispatcher, and one handler for each path."""
