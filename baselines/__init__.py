"""Query strategies that every comparison needs."""
