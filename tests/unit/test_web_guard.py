"""Which addresses may be dialled."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from codeyard_server.adapters.outbound import AddressGuard, AddressRefusedError

PRIVATE = [
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "100.64.0.1",
    "127.0.0.1",
    "127.255.255.254",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.8",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.51.100.7",
    "203.0.113.9",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::8.8.8.8",
    "::ffff:127.0.0.1",
    "::ffff:8.8.8.8",
    "64:ff9b::7f00:1",
    "64:ff9b::808:808",
    "64:ff9b:1::a00:1",
    "100::1",
    "2001::1",
    "2001:0:7f00:1::",
    "2001:20::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "2002:a9fe:a9fe::1",
    "3fff::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fec0::1",
    "ff02::1",
]
PUBLIC = ["1.1.1.1", "8.8.8.8", "172.32.0.1", "192.0.3.1", "2001:4860:4860::8888", "2606:4700:4700::1111"]


class Names:
    """A resolver that knows fixed names and counts the questions."""

    def __init__(self, **names: Sequence[str]) -> None:
        self.names = {name.replace("_", "."): addresses for name, addresses in names.items()}
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append(host)
        if host not in self.names:
            raise OSError("no such name")
        return self.names[host]


@pytest.mark.parametrize("address", PRIVATE)
async def test_guard_refuses_an_address_that_is_not_global_unicast(address: str) -> None:
    """A literal address outside the public internet is refused, in all the forms that embed one."""
    with pytest.raises(AddressRefusedError):
        await AddressGuard().addresses(address, 80)


@pytest.mark.parametrize("address", PRIVATE)
async def test_guard_refuses_a_name_when_it_resolves_to_such_an_address(address: str) -> None:
    """What counts is where a name leads, not what it is called."""
    with pytest.raises(AddressRefusedError):
        await AddressGuard(resolve=Names(example_com=[address])).addresses("example.com", 443)


@pytest.mark.parametrize("address", PUBLIC)
async def test_guard_admits_a_public_address(address: str) -> None:
    """A public address is returned as it was written, and without asking a resolver."""
    names = Names()
    assert await AddressGuard(resolve=names).addresses(address, 80) == (address,)
    assert names.asked == []


@pytest.mark.parametrize(
    "host",
    [
        "2130706433",
        "017700000001",
        "0x7f000001",
        "127.1",
        "127.0.1",
        "0177.0.0.1",
        "0x7f.0.0.1",
        "127.0.0.1.",
        "127.0.0.01",
        "0",
        "0x",
        "1.2.3.4.5",
        "256.1.1.1",
        "fe80::1%eth0",
        "::1%lo",
        "[::1]",
        "::ffff:127.1",
        "exa mple.com",
        "example.com\r\nx",
        "exämple.com",
        "-",
        "",
        ".",
        "a" * 254,
        "example.com/",
        "user@example.com",
    ],
)
async def test_guard_refuses_a_host_that_is_neither_a_name_nor_a_plain_address(host: str) -> None:
    """Decimal, octal, hexadecimal and short forms, zones and odd characters never reach the resolver."""
    names = Names(**{host: ["1.1.1.1"]})
    with pytest.raises(AddressRefusedError):
        await AddressGuard(resolve=names).addresses(host, 80)
    assert names.asked == []


async def test_guard_refuses_localhost() -> None:
    """The system's resolver leads localhost to the loopback, which is refused."""
    with pytest.raises(AddressRefusedError):
        await AddressGuard().addresses("localhost", 80)


async def test_guard_keeps_only_the_public_addresses_of_a_name() -> None:
    """Where a name has several addresses, those that are refused are left out."""
    guard = AddressGuard(resolve=Names(mixed_example=["10.0.0.1", "8.8.8.8", "fe80::1"]))
    assert await guard.addresses("MIXED.example", 80) == ("8.8.8.8",)


async def test_guard_says_that_a_name_does_not_resolve() -> None:
    """A name without addresses is refused with that reason."""
    with pytest.raises(AddressRefusedError, match=r"nowhere\.example cannot be resolved"):
        await AddressGuard(resolve=Names()).addresses("nowhere.example", 80)


@pytest.mark.parametrize(
    ("allowed", "host", "port", "admitted"),
    [
        ("127.0.0.1:8000", "127.0.0.1", 8000, True),
        ("127.0.0.1:8000", "127.0.0.1", 8001, False),
        ("127.0.0.1:8000", "local.example", 8000, True),
        ("10.0.0.0/8:*", "10.9.8.7", 1, True),
        ("10.0.0.0/8:*", "11.9.8.7", 1, True),
        ("10.0.0.0/8:*", "192.168.0.1", 1, False),
        ("[::1]:8080", "::1", 8080, True),
        ("[fd00::/8]:*", "fd12::1", 9, True),
        ("local.example:*", "local.example", 5, True),
        ("local.example:*", "127.0.0.1", 5, False),
        ("local.example:*", "other.example", 5, False),
        ("*.example:80", "deep.other.example", 80, True),
        ("*.example:80", "example", 80, False),
        ("LOCAL.example:80", "Local.Example.", 80, True),
    ],
)
async def test_allow_list_admits_exactly_what_it_names(allowed: str, host: str, port: int, admitted: bool) -> None:
    """An exception counts for its name or network and its port, and for nothing else."""
    private = ["127.0.0.1"]
    names = Names(local_example=private, other_example=private, example=private, deep_other_example=private)
    names.names["local.example."] = private
    guard = AddressGuard([allowed], resolve=names)
    if admitted:
        assert await guard.addresses(host, port)
    else:
        with pytest.raises(AddressRefusedError):
            await guard.addresses(host, port)


@pytest.mark.parametrize(
    "text", ["example.com", "example.com:", ":80", "a:0", "a:65536", "a:x", "*:80", "a*b:80", "a/b:80"]
)
def test_allow_list_refuses_an_entry_that_is_not_host_and_port(text: str) -> None:
    """A mistake of the administrator stops the start instead of admitting something else."""
    with pytest.raises(ValueError, match="host:port"):
        AddressGuard([text])
