"""Published query strategies."""
