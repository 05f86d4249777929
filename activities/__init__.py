"""One effect each, through one port."""
