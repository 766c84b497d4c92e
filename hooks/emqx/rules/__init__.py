"""The rules as code: `emqx-rules/` read, rendered, exported, applied and checked."""
