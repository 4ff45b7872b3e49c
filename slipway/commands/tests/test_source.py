"""Images say where their source is, so that anyone can view it: an address without a login, or none."""

import shutil
import subprocess

import pytest

from slipway.commands import ROOT

HTTPS = "https://git.example/team/shop.git"


@pytest.mark.parametrize(
    ("remote", "source"),
    [
        ("https://git.example/team/shop.git", HTTPS),
        ("https://user:token@git.example/team/shop.git", HTTPS),
        ("https://token@git.example/team/shop.git", HTTPS),
        ("https://user:to@ken@git.example/team/shop.git", HTTPS),
        ("https://git.example/team/shop.git?private_token=token", HTTPS),
        ("http://user:token@git.example:8080/shop", "http://git.example:8080/shop"),
        ("git@git.example:team/shop.git", HTTPS),
        ("git.example:team/shop.git", HTTPS),
        ("git@git.example:/team/shop.git", HTTPS),
        ("ssh://git@git.example/team/shop.git", HTTPS),
        ("ssh://user:token@git.example:2222/team/shop.git", HTTPS),
        ("/srv/git/shop.git", ""),
        ("../shop", ""),
        ("file:///srv/git/shop.git", ""),
        ("", ""),
    ],
)
def test_the_source_is_the_remotes_address_without_a_login(tmp_path, monkeypatch, remote, source):
    for name in ("SOURCE", "MAKEFLAGS", "MAKELEVEL", "GIT_DIR"):
        monkeypatch.delenv(name, raising=False)
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "slipway").symlink_to(ROOT / "slipway")
    (tmp_path / "show.mk").write_text("show:\n\t@printenv SOURCE\n")
    git = ["git", "-C", tmp_path]
    subprocess.run([*git, "init", "--quiet"], check=True)
    if remote:
        subprocess.run([*git, "remote", "add", "origin", remote], check=True)
    command = ["make", "--silent", "--file", "Makefile", "--file", "show.mk", "show"]
    shown = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == source
