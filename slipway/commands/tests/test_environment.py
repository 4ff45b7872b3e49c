"""`.env` as the tools read it; slipway/proofs/stack/test_tools.py compares that with compose."""

import pytest

from slipway.commands.shared import dotenv


@pytest.fixture
def settings_file(tmp_path, monkeypatch):
    """Writes the file that the tools read."""
    monkeypatch.setattr(dotenv, "FILE", tmp_path / ".env")
    return lambda text: (tmp_path / ".env").write_text(text)


def test_quotes_comments_and_variables_are_no_part_of_a_value(settings_file, monkeypatch):
    monkeypatch.delenv("NOWHERE", raising=False)
    settings_file("DEV_PORT=\"8001\"\nexport TAG='v1' # today's\nSITE_ADDRESS=${NOWHERE:-localhost} # here\n")
    assert dotenv.in_file() == {"DEV_PORT": "8001", "TAG": "v1", "SITE_ADDRESS": "localhost"}


@pytest.mark.parametrize(
    "line", ['A="x', 'A="x"y', "A=${B", "A=${B:?no}", "A=${B:-${C}}", 'A="\\0101"', "A B=1", "A+=1"]
)
def test_what_it_does_not_understand_is_one_line_with_its_number_and_no_guess(settings_file, line):
    settings_file(f"FINE=1\n{line}\n")
    with pytest.raises(dotenv.Unreadable, match=r"^\.env, line 2, can't be understood \(A[ B+]*\): "):
        dotenv.get("FINE")
