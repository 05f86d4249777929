"""The demonstration: a small real project and scripted agents that really edit it."""
