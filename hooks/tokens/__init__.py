"""Bearer tokens: the fixed ones of EMQX and operators, and the users' JWTs with the keys that sign them."""
