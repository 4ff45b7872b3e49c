"""Which service a command uses if none is named."""

import pytest

from slipway.commands.shared import inventory
from slipway.commands.shared.inventory import Service
from slipway.commands.shared.stop import Stop

SHOP = Service("shop")
BILLING = Service("billing", path="/billing", port=8001)
DEPOT = Service("depot", host="depot.example", port=8002)
TICK = Service("tick", "worker")


@pytest.mark.parametrize(
    ("services", "meant"),
    [([BILLING], BILLING), ([BILLING, SHOP, TICK], SHOP), ([DEPOT, SHOP], SHOP), ([TICK], TICK)],
)
def test_it_is_the_one_with_the_sites_first_page_or_the_only_one(monkeypatch, services, meant):
    monkeypatch.setattr(inventory, "all", lambda: services)
    assert inventory.find() == meant


@pytest.mark.parametrize(
    ("name", "said"),
    [("", "there are several services: s= takes billing, tick"), ("nowhere", "there is no service nowhere: s= takes")],
)
def test_where_that_says_nothing_the_known_ones_are_named(monkeypatch, name, said):
    monkeypatch.setattr(inventory, "all", lambda: [BILLING, TICK])
    with pytest.raises(Stop, match=said):
        inventory.find(name)
