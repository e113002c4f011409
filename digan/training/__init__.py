"""Training: losses, one iteration, runs that can be continued exactly."""
