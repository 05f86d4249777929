"""Agent runs of this host: found again after a crash, started once, ended whole."""
