"""What a service shows of itself: logs, request ids, metrics, its version and its operational routes."""
