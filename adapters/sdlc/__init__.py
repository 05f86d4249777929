"""The transactions of the SDLC database, by idea; `adapters.sdlc_store` puts them together."""
