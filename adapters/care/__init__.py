"""Health checks and repairs of the cluster and of one host."""
