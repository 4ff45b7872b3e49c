"""A fresh clone of this tree, as a fork begins: everything in one commit, and nothing installed."""

from pathlib import Path

from slipway.proofs.harness import Stack, copy_tree, unique

COMMITTER = ("-c", "user.name=Test", "-c", "user.email=test@shop.example", "-c", "init.defaultBranch=main")


class Fork(Stack):
    """A git repository with this tree in its first commit, or a clone of another."""

    def __init__(self, directory: Path, source: "Fork | None" = None, **settings: object) -> None:
        super().__init__(directory, unique("fork"), **settings)
        if source:
            self.git("clone", "--quiet", str(source.directory), ".")
        else:
            copy_tree(directory)
            self.git("init", "--quiet")
            self.commit("The tree, as it was taken")

    def git(self, *arguments: str, **options) -> str:
        return self.run("git", *COMMITTER, *arguments, **options).stdout

    def commit(self, message: str) -> str:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", message)
        return self.git("rev-parse", "HEAD").strip()

    def changed(self) -> str:
        return self.git("status", "--porcelain")

    def write(self, name: str, text: str) -> None:
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def read(self, name: str) -> str:
        return (self.directory / name).read_text()

    def replace(self, name: str, former: str, new: str) -> None:
        assert former in self.read(name)
        self.write(name, self.read(name).replace(former, new, 1))


def complaint(run) -> str:
    """The one line of a failed make, without make's own."""
    assert run.returncode != 0, run.stdout
    (line,) = [line for line in run.stderr.splitlines() if not line.startswith("make: ***")]
    return line
