"""What is seen of a service from outside: logs, request ids, metrics, its version and its operational routes."""
