"""What several verbs need: the error that stops one, compose, `.env`, locks, git, and where a command runs."""
