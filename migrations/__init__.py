"""How the schema of the SDLC database came to be, step by step."""
