"""What containers run: the entrypoint, the job of a release, a worker's rounds, and how their health is told."""
