"""`make egress`: writes the files of the services' ways out. Standard library only."""

from slipway.commands.shared import egress as shared
from slipway.commands.shared import inventory


def egress() -> None:
    shared.write()
    for service in inventory.all():
        print(f"{service.name} reaches {', '.join(service.egress) or 'nothing'} outside.")
    print("Commit what has changed; `make deploy` puts it into effect.")
