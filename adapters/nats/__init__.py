"""NATS: connections, events and the streams that keep them."""
