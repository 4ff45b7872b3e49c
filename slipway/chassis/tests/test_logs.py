import io
import json
import logging
import os
import select

import pytest

from chassis.observe import logs
from chassis.observe.logs import JSONFormatter, TextFormatter

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


@pytest.mark.parametrize("value", [2**80, 1.5, None, True, b"bytes", ["a"], {"b": 1}, "plain", "öde"])
def test_a_value_is_written_as_ever_whichever_encoder_takes_it(value):
    written = line(JSONFormatter(), "x", value=value)
    assert written.isascii()
    assert json.loads(written)["value"] == (repr(value) if isinstance(value, bytes) else value)


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


@pytest.fixture
def pipe(monkeypatch):
    """A pipe in place of stdout, and its reading end."""
    reader, writer = os.pipe()
    handler = logs.PipeHandler(writer)
    handler.setFormatter(JSONFormatter())
    yield handler, reader
    for descriptor in (reader, writer, handler.descriptor):
        os.close(descriptor)


def emit(handler, message, **extra):
    handler.emit(
        logging.makeLogRecord({"name": "t", "levelname": "INFO", "levelno": logging.INFO, "msg": message, **extra})
    )


def read_lines(reader, number):
    """What each read returns, until there are that many lines."""
    got = []
    while b"".join(got).count(b"\n") < number:
        assert select.select([reader], [], [], 5)[0], "a line is missing"
        got.append(os.read(reader, 65536))
    return [json.loads(line)["message"] for line in b"".join(got).splitlines()]


def test_lines_of_the_same_moment_are_written_together_and_none_stays_behind(pipe, monkeypatch):
    handler, reader = pipe
    written = []
    monkeypatch.setattr(handler, "write", lambda lines, write=handler.write: (written.append(len(lines)), write(lines)))
    handler.GATHER = 0.2  # seconds: far more than making the lines takes
    handler.gather()
    for number in range(9):
        emit(handler, str(number))
    assert read_lines(reader, 9) == [str(number) for number in range(9)]
    assert written == [1, 8]


def test_a_warning_is_written_at_once_with_all_before_it(pipe):
    handler, reader = pipe
    handler.GATHER = 600  # seconds
    handler.gather()
    emit(handler, "at once, since nothing was written before")
    emit(handler, "waits")
    emit(handler, "warns", levelname="WARNING", levelno=logging.WARNING)
    assert read_lines(reader, 3)[1:] == ["waits", "warns"]


def test_what_waits_is_written_at_the_end(pipe):
    handler, reader = pipe
    handler.GATHER = 600  # seconds
    handler.gather()
    emit(handler, "at once")
    emit(handler, "waits")
    logging.shutdown([lambda: handler])
    assert read_lines(reader, 2) == ["at once", "waits"]


def test_a_signals_handler_may_log_while_a_line_is_written(pipe, monkeypatch):
    handler, reader = pipe
    write = handler.write

    def interrupted(lines):
        monkeypatch.setattr(handler, "write", write)
        emit(handler, "from the handler")
        write(lines)

    monkeypatch.setattr(handler, "write", interrupted)
    emit(handler, "interrupted")
    assert sorted(read_lines(reader, 2)) == ["from the handler", "interrupted"]


def test_lines_that_are_written_together_are_whole_whatever_their_length(pipe):
    handler, reader = pipe
    handler.gather()
    for number in range(30):
        emit(handler, f"{number} {'x' * 900}")
    assert [line.split()[0] for line in read_lines(reader, 30)] == [str(number) for number in range(30)]


def test_a_full_pipe_blocks_nobody_and_the_loss_is_told_when_it_drains(pipe):
    handler, reader = pipe
    for number in range(2000):  # far over a pipe's 64 KiB
        emit(handler, f"line {number} {'x' * 200}")
    assert handler.dropped > 0
    dropped, read = handler.dropped, b""
    while handler.dropped:
        read += os.read(reader, 1 << 20)
        emit(handler, "after")
    lines = [json.loads(line) for line in (read + os.read(reader, 1 << 20)).splitlines()]
    assert f"{dropped} log lines were dropped: the log pipe was full" in [line["message"] for line in lines]
    assert lines[-1]["message"] == "after"


@pytest.mark.parametrize("filler", ["x", "\x1b", "é", "\U0001f600"])
def test_a_line_of_any_length_is_cut_to_what_a_pipe_takes_whole_and_stays_json(pipe, filler):
    handler, reader = pipe
    emit(handler, filler * 100_000, agent=filler * 50_000, path="/" + filler * 9000)
    written = os.read(reader, 1 << 20)
    assert len(written) <= 4096
    assert json.loads(written)["message"].startswith(filler)


def test_a_long_traceback_keeps_its_end(pipe):
    handler, reader = pipe

    def deep(n):
        return deep(n - 1) if n else 1 / 0

    try:
        eval("deep(300)", {"deep": deep})
    except ZeroDivisionError as error:
        emit(handler, "failed", exc_info=(type(error), error, error.__traceback__))
    assert json.loads(os.read(reader, 1 << 20))["exception"].endswith("ZeroDivisionError: division by zero")


@pytest.fixture
def served(pipe, monkeypatch):
    """A logger like gunicorn's for requests, and the reading end of the only handler's pipe."""
    handler, reader = pipe
    monkeypatch.setattr(logging.root, "handlers", [handler])
    monkeypatch.setattr(logging.root, "level", logging.INFO)
    log = logging.getLogger("test.served")
    log.setLevel(logging.INFO)
    yield log, reader
    log.handlers.clear()
    log.filters.clear()
    log.disabled = False


FIELDS = {"path": "/ä%s", "status": 200, "seconds": 0.1, "agent": None, "request_id": "of-the-request"}


def test_the_quick_way_writes_the_line_that_the_ordinary_one_does(served):
    log, reader = served
    logs.info(log, "GET /ä%s 200", FIELDS)
    log.info("GET /ä%s 200", extra=FIELDS)
    quick, ordinary = (json.loads(each) for each in os.read(reader, 1 << 20).splitlines())
    assert quick.pop("time")[:18] <= ordinary.pop("time")
    assert list(quick.items()) == list(ordinary.items())


@pytest.mark.parametrize("filler", ["x", "é"])
def test_the_quick_way_cuts_a_long_line_as_well(served, filler):
    log, reader = served
    logs.info(log, "hello", {"path": "/" + filler * 9000})
    written = os.read(reader, 1 << 20)
    assert len(written) <= 4096
    assert json.loads(written)["message"] == "hello"


def test_whoever_else_listens_gets_a_record(served):
    log, _ = served
    records = []
    listener = logging.Handler()
    listener.emit = records.append
    log.addHandler(listener)
    logs.info(log, "hello", {"path": "/"})
    log.handlers.clear()
    logging.root.handlers.append(listener)
    logs.info(log, "hello", {"path": "/"})
    assert [(each.getMessage(), each.path) for each in records] == [("hello", "/")] * 2


def test_the_quick_way_heeds_levels_and_filters(served):
    log, reader = served
    log.setLevel(logging.WARNING)
    logs.info(log, "too low", {})
    log.setLevel(logging.INFO)
    log.addFilter(lambda record: record.getMessage() != "filtered")
    logs.info(log, "filtered", {})
    logs.info(log, "hello", {})
    assert [json.loads(each)["message"] for each in os.read(reader, 1 << 20).splitlines()] == ["hello"]
