"""Orchestration only: the order of things, never their effects."""
