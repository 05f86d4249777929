"""How each kind of agent is run."""
