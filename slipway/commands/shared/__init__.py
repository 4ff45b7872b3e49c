"""What several verbs share: the error that stops them, compose, `.env`, locks, git, and where a command runs."""
