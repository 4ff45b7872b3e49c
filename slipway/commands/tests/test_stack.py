"""What `make stack` makes of a compose configuration: each part of it is translated, named or refused."""

import pytest

from slipway.commands import ROOT
from slipway.commands.shared.stop import Stop
from slipway.commands.stack import Stack

BASE = {"image": "team/web:two", "restart": "unless-stopped"}
PROXY = {
    "build": {"context": f"{ROOT}/docker/proxy/caddy"},
    "image": "team/proxy:caddy-2-listener",
    "networks": {"front": None},
}
LISTENER = {
    "networks": {"edge": None},
    "ports": [{"mode": "ingress", "target": 443, "published": "443", "protocol": "tcp", "host_ip": "192.0.2.1"}],
}


def translated(name="tick", noted=None, others=None, beside=None, **keys):
    """The stack with one service of these keys, and the service in it; `beside` is what stands beside `services`."""
    services = {name: {**BASE, **keys}, **(others or {})}
    config = {"name": "shop", "services": services, "networks": {}, "volumes": {}, "secrets": {}, **(beside or {})}
    stack = Stack(config, "two", noted or {})
    return stack, stack.services[name]


def test_limits_are_swarms():
    limits = translated(cpus=0.5, mem_limit="67108864", pids_limit=50)[1]["deploy"]["resources"]["limits"]
    assert limits == {"cpus": "0.5", "memory": "67108864", "pids": 50}


def test_what_is_kept_in_memory_stays_there_and_of_limited_size():
    service = translated(tmpfs=["/run/x:noexec,nosuid,nodev,uid=999,gid=999,size=1m", "/tmp"], shm_size="1024")[1]
    assert service["volumes"] == [
        {"type": "tmpfs", "target": "/run/x", "tmpfs": {"size": 1048576}},
        {"type": "tmpfs", "target": "/tmp"},
        {"type": "tmpfs", "target": "/dev/shm", "tmpfs": {"size": 1024}},
    ]


def test_options_of_the_resolver_go_by_the_environment():
    service = translated(dns_opt=["timeout:1", "attempts:1"], environment={"A": "1", "B": None})[1]
    assert service["environment"] == {"A": "1", "RES_OPTIONS": "timeout:1 attempts:1"}


def test_a_secret_is_named_by_its_contents_and_belongs_to_the_services_user(tmp_path):
    def of(contents, **keys):
        (tmp_path / "key").write_text(contents)
        mounted = [{"source": "key", "target": "/run/secrets/key"}]
        stack, service = translated(beside={"secrets": {"key": {"file": f"{tmp_path}/key"}}}, secrets=mounted, **keys)
        return stack.file(False)["secrets"]["key"]["name"], service["secrets"][0]

    first, mounted = of("one")
    assert (mounted["uid"], mounted["gid"], mounted["mode"]) == ("10001", "10001", 0o400)
    assert of("one", user="999:999")[1]["uid"] == "999"
    assert first != of("two")[0]
    assert "one" not in first


def test_files_of_the_checkout_are_configs_named_by_their_contents():
    source = f"{ROOT}/slipway/postgres"
    stack, service = translated(volumes=[{"type": "bind", "source": source, "target": "/opt", "read_only": True}])
    assert {each["target"] for each in service["configs"]} >= {"/opt/start.sh", "/opt/roles.sql"}
    assert next(each for each in service["configs"] if each["target"] == "/opt/start.sh")["mode"] == 0o555
    for each in service["configs"]:
        made = stack.configs[each["source"]]
        assert (ROOT / "deploy/swarm" / made["file"]).resolve().is_file()
        assert len(made["name"]) <= 64


def test_a_directory_of_the_host_is_named():
    stack, service = translated(volumes=[{"type": "bind", "source": "/etc/certs", "target": "/c", "read_only": True}])
    assert service["volumes"] == [{"type": "bind", "source": "/etc/certs", "target": "/c", "read_only": True}]
    assert "/etc/certs has to be there on its nodes" in stack.notes


def test_what_keeps_data_stays_on_its_node_and_swarm_does_not_end_it():
    service = translated(
        "db",
        volumes=[{"type": "volume", "source": "data", "target": "/d", "volume": {}}],
        healthcheck={"test": ["CMD", "x"]},
    )[1]
    assert service["deploy"]["placement"]["constraints"] == ["node.labels.slipway.database == true"]
    assert service["healthcheck"] == {"disable": True}
    assert service["deploy"]["update_config"]["order"] == "stop-first"


def test_a_volume_that_all_nodes_reach_keeps_no_replica_on_one():
    volumes = [{"type": "volume", "source": "uploads", "target": "/uploads", "volume": {}}]
    shared = {"volumes": {"uploads": {"name": "shop_uploads", "driver_opts": {"type": "nfs"}}}}
    assert "placement" not in translated("web-a", beside=shared, volumes=volumes)[1]["deploy"]
    own = translated("web-a", beside={"volumes": {"uploads": {"name": "shop_uploads"}}}, volumes=volumes)[1]
    assert "placement" in own["deploy"]
    assert "ports" not in own  # both replicas are there


def test_a_pair_is_kept_apart_and_replaced_without_a_gap():
    a, b = (translated(name)[1] for name in ("web-a", "web-b"))
    assert a["ports"] == b["ports"]
    assert a["ports"][0]["mode"] == "host"
    assert a["deploy"]["update_config"] == {"order": "start-first", "failure_action": "rollback"}
    assert a["healthcheck"]["test"][-1] == "/health/ready?for=traffic"


def test_jobs_come_before_and_static_files_on_each_node():
    static = [{"type": "volume", "source": "static", "target": "/srv/static", "volume": {}}]
    stack, roles = translated("roles", restart="no", others={"migrate": {**BASE, "restart": "no", "volumes": static}})
    assert roles["deploy"]["mode"] == "replicated-job"
    assert stack.services["migrate"]["deploy"]["mode"] == "global-job"
    assert list(stack.file(True)["services"]) == ["roles", "migrate"]
    assert stack.file(False)["services"] == {}


def test_each_node_has_a_proxy_with_its_configuration_in_it_and_the_listeners_ports():
    stack, proxy = translated("proxy", others={"listener": LISTENER}, **PROXY)
    assert "listener" not in stack.services
    assert proxy["deploy"]["mode"] == "global"
    assert proxy["image"] == "team/proxy:two"
    assert proxy["ports"] == [{"target": 443, "published": 443, "protocol": "tcp", "mode": "host"}]
    assert proxy["networks"] == {"front": None, "edge": {"aliases": ["listener"]}}
    assert any("PUBLISH_ADDRESS" in note for note in stack.notes)


def test_a_way_out_has_the_names_of_its_hosts_and_asks_another_resolver(monkeypatch):
    web = {**BASE, "networks": {"front": None, "inside": None}, "external_links": ["out:api.example.com"]}
    keys = {"networks": {"inside": None, "outside": None}, "others": {"web-a": web, "web-b": web}}
    monkeypatch.setenv("EGRESS_DNS", "192.0.2.53:53")
    stack, service = translated("out", **keys)
    assert service["networks"] == {"inside": {"aliases": ["api.example.com"]}, "outside": None}
    assert service["environment"] == {"EGRESS_DNS": "192.0.2.53:53"}
    assert "external_links" not in stack.services["web-a"]
    monkeypatch.delenv("EGRESS_DNS")
    with pytest.raises(Stop, match="EGRESS_DNS is not set"):
        translated("out", **keys)


def test_an_image_has_the_digest_that_was_noted_and_the_same_proxy_is_not_replaced():
    noted = {"team/web:two": "sha256:2", "team/proxy:two": "sha256:9"}
    assert translated(noted=noted)[1]["image"] == "team/web:two@sha256:2"
    assert translated("proxy", noted=noted, **PROXY)[1]["image"] == "team/proxy@sha256:9"


def test_a_networks_ipv6_and_the_ban_of_new_privileges_are_named():
    networks = {"edge": {"name": "shop_edge", "ipam": {}, "enable_ipv6": True}}
    stack, service = translated(beside={"networks": networks}, security_opt=["no-new-privileges:true"])
    assert "security_opt" not in service
    assert stack.file(False)["networks"]["edge"] == {"driver": "overlay", "internal": False}
    assert [note for note in stack.notes if "no-new-privileges" in note or "IPv6" in note] == list(stack.notes)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"privileged": True}, "tick: `privileged`"),
        ({"network_mode": "host"}, "tick: `network_mode`"),
        ({"restart": "on-failure"}, "tick: `restart: on-failure`"),
        ({"security_opt": ["seccomp:unconfined"]}, "tick: `security_opt"),
        ({"networks": {"front": {"ipv4_address": "10.0.0.2"}}}, "tick: networks.front: `ipv4_address`"),
        ({"tmpfs": ["/x:exec"]}, "tick: tmpfs /x: `exec`"),
        ({"volumes": [{"type": "volume", "target": "/d", "volume": {"subpath": "x"}}]}, "tick: volumes: `subpath`"),
        ({"beside": {"networks": {"front": {"ipam": {"driver": "x"}}}}}, "networks.front: `ipam`"),
        ({"beside": {"secrets": {"key": {"environment": "KEY"}}}}, "secrets.key is no file"),
    ],
)  # fmt: skip
def test_what_has_no_translation_is_refused_in_one_line(keys, said):
    with pytest.raises(Stop, match=said):
        translated(**keys)[0].file(False)
