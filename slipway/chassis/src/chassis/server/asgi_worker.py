"""gunicorn's ASGI worker, which ends when it is told to."""

import asyncio
from typing import Any

from gunicorn.workers.gasgi import ASGIWorker


class Worker(ASGIWorker):
    """gunicorn's looks once a second whether it was told to stop, and so takes a second more than a drain."""

    serving: asyncio.Task[Any] | None = None

    def notify(self) -> None:
        """Called by the loop that looks, and by nothing else."""
        self.serving = asyncio.current_task()
        super().notify()

    def handle_exit_signal(self) -> None:
        if self.alive and self.serving:
            self.serving.cancel()  # its sleep: the loop then goes on to the graceful shutdown
        super().handle_exit_signal()
