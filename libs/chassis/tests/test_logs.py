import io
import json
import logging

import pytest

from chassis import logs
from chassis.logs import JSONFormatter, TextFormatter

HOSTILE = ["a\r\nb", "\x1b[31mred", "\x00", "\udce4", "\u2028", '"}\n{"', "\ud83d"]


def line(formatter: logging.Formatter, message: str, **extra) -> str:
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(formatter)
    record = logging.makeLogRecord({"name": "test", "levelname": "INFO", "msg": message, **extra})
    handler.emit(record)
    return out.getvalue()


@pytest.mark.parametrize("text", HOSTILE)
def test_whatever_the_input_a_log_line_is_one_json_object(text):
    written = line(JSONFormatter(), text, agent=text)
    assert written.count("\n") == 1
    assert written.isascii()
    entry = json.loads(written)
    assert (entry["message"], entry["agent"]) == (text, text)


@pytest.mark.parametrize("text", HOSTILE)
def test_text_for_a_terminal_escapes_control_characters(text):
    written = line(TextFormatter(), text)
    assert written.count("\n") == 1
    assert "\x1b" not in written


def test_a_line_carries_time_level_logger_and_the_request(monkeypatch):
    token = logs.request_id.set("id-of-the-request")
    try:
        entry = json.loads(line(JSONFormatter(), "hello", created=0.0))
    finally:
        logs.request_id.reset(token)
    assert entry["time"] == "1970-01-01T00:00:00.000Z"
    assert entry["request_id"] == "id-of-the-request"


def test_an_exception_stays_on_its_line():
    try:
        raise ValueError("two\nlines")
    except ValueError as error:
        written = line(JSONFormatter(), "failed", exc_info=(type(error), error, error.__traceback__))
    assert written.count("\n") == 1
    assert "ValueError: two\nlines" in json.loads(written)["exception"]


def test_values_that_json_does_not_know_are_shown_as_python_does():
    assert (
        json.loads(
            line(
                JSONFormatter(),
                "x",
                path={
                    1,
                },
            )
        )["path"]
        == "{1}"
    )
