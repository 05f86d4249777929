"""The transactions of the SDLC database, by subject; `store` lists them all."""
