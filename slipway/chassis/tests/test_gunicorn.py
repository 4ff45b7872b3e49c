"""The internals of gunicorn that chassis.server uses, by name: a version that changes one fails here first."""

import inspect

import pytest
from gunicorn.http import wsgi
from gunicorn.workers import gasgi, gthread

USED = {
    gthread.ThreadWorker: {
        "_cap_keepalive": ["deadline"],
        "_keepalive_after": ["conn", "keepalive"],
        "accept": ["listener"],
        "enqueue_req": ["conn"],
        "finish_request": ["conn", "fs"],
        "get_thread_pool": [],
        "handle": ["conn"],
        "handle_exit": ["sig", "frame"],
        "init_process": [],
    },
    wsgi.Response: {
        "_emit_body": ["data"],
        "close": [],
        "default_headers": [],
        "send_headers": [],
        "sendfile": ["respiter"],
        "write": ["arg"],
    },
    gasgi.ASGIWorker: {"handle_exit_signal": [], "notify": []},
}
ASSIGNED = {
    gthread.ThreadWorker: ("method_queue", "nr_conns", "tpool"),
    gthread.TConn: ("data_ready", "initialized", "parser", "sock"),
    wsgi.Response: ("chunked", "headers", "headers_sent", "sock"),
}


@pytest.mark.parametrize(("owner", "name"), [(owner, name) for owner, names in USED.items() for name in names])
def test_each_method_that_is_called_or_replaced_takes_what_it_took(owner, name):
    assert list(inspect.signature(getattr(owner, name)).parameters)[1:] == USED[owner][name]


@pytest.mark.parametrize(("owner", "name"), [(owner, name) for owner, names in ASSIGNED.items() for name in names])
def test_each_attribute_that_is_read_or_set_is_one_of_theirs(owner, name):
    assert f"self.{name} = " in inspect.getsource(owner)


def test_what_marks_a_connection_that_has_sent_nothing_is_theirs():
    assert gthread._DEFER is not None
    assert "_DEFER" in inspect.getsource(gthread.ThreadWorker)
