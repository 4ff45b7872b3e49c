"""gunicorn's ASGI worker, which stops as soon as it is told to."""

import asyncio
from typing import Any

from gunicorn.workers.gasgi import ASGIWorker


class Worker(ASGIWorker):
    """gunicorn's own checks once a second whether it was told to stop, and so takes a second more than a drain."""

    serving: asyncio.Task[Any] | None = None

    def notify(self) -> None:
        """Called only by the loop that checks."""
        self.serving = asyncio.current_task()
        super().notify()

    def handle_exit_signal(self) -> None:
        if self.alive and self.serving:
            self.serving.cancel()  # ends its sleep: the loop then goes on to the graceful shutdown
        super().handle_exit_signal()
