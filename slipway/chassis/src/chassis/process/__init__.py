"""What containers run: the entrypoint, a release's job, a worker's rounds, and their health checks."""
