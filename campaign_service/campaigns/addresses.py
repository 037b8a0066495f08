"""The operator's rules for the host names and addresses of webhooks."""

import socket
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

LOOPBACK, PRIVATE, PUBLIC = "loopback", "private", "public"
LINK_LOCAL = "link-local"
_WORDS = frozenset({LOOPBACK, PRIVATE, PUBLIC})

# IPv4 addresses inside IPv6 ones: their last 32 bits, or those behind the first 16
_NAT64 = ip_network("64:ff9b::/96")
_COMPATIBLE = ip_network("::/96")
_SHARED = ip_network("100.64.0.0/10")
# the metadata of a cloud under an address that is not link-local
_METADATA = (ip_address("fd00:ec2::254"), ip_address("100.100.100.200"))


class AddressRefusedError(Exception):
    """Nothing is sent to this address."""

    def __init__(self, address: str, rule: str) -> None:
        super().__init__(f"{address} is refused: {rule}")
        self.address = address
        self.rule = rule


@dataclass(frozen=True, slots=True)
class Rules:
    """The host names, networks and words of one setting."""

    hosts: frozenset[str] = frozenset()
    networks: tuple[Network, ...] = ()
    words: frozenset[str] = frozenset()

    @classmethod
    def read(cls, text: str) -> "Rules":
        """Reads the comma-separated parts. Raises `ValueError` for any other part."""
        hosts, networks, words = set(), [], set()
        for item in filter(None, (part.strip().lower() for part in text.split(","))):
            if item in _WORDS:
                words.add(item)
                continue
            try:
                networks.append(ip_network(item, strict=False))
            except ValueError:
                if "/" in item or not item.replace("-", "").replace(".", "").isalnum():
                    raise ValueError(f"neither a host, a network nor a word: {item!r}") from None
                hosts.add(item.rstrip("."))
        return cls(frozenset(hosts), tuple(networks), frozenset(words))

    def __bool__(self) -> bool:
        return bool(self.hosts or self.networks or self.words)

    def names(self, host: str) -> bool:
        return host.lower().rstrip(".") in self.hosts

    def match(self, address: Address) -> str | None:
        """Returns the rule that matches the address, if any."""
        for network in self.networks:
            if address.version == network.version and address in network:
                return str(network)
        kind = kind_of(address)
        return kind if kind in self.words else None


class AddressPolicy:
    """Refuses addresses that `deny` matches, or a non-empty `allow` does not; link-local always."""

    def __init__(self, allow: Rules, deny: Rules) -> None:
        self._allow = allow
        self._deny = deny

    def check_host(self, host: str) -> None:
        """Checks a host before it is resolved: its name, or its address in any spelling.

        `127.1`, `0x7f000001` and `0177.0.0.1` connect to the same address. Raises
        `AddressRefusedError`.
        """
        if self._deny.names(host):
            raise AddressRefusedError(host, "denied")
        try:
            found = socket.getaddrinfo(host, None, flags=socket.AI_NUMERICHOST)
        except (OSError, UnicodeError):
            # a name
            return
        for *_, address in found:
            self.check(host, str(address[0]))

    def check(self, host: str, address: str) -> None:
        """Checks an address to which a host was resolved. Raises `AddressRefusedError`."""
        meant = _meant(ip_address(address.partition("%")[0]))
        for each in meant:
            if each.is_link_local or each in _METADATA:
                raise AddressRefusedError(address, LINK_LOCAL)
            if rule := self._deny.match(each):
                raise AddressRefusedError(address, rule)
        if not self._allow or self._allow.names(host):
            return
        # the address that packets reach in the end
        if not self._allow.match(meant[0]):
            raise AddressRefusedError(address, "not allowed")


def kind_of(address: Address) -> str:
    if address.is_loopback or address.is_unspecified or address in ip_network("0.0.0.0/8"):
        # a connection to 0.0.0.0 reaches this machine
        return LOOPBACK
    if address.is_link_local:
        return LINK_LOCAL
    shared = address.version == _SHARED.version and address in _SHARED
    return PRIVATE if shared or not address.is_global else PUBLIC


def _meant(address: Address) -> Sequence[Address]:
    """Returns the IPv4 address that it stands for, if any, and the address itself."""
    if isinstance(address, IPv4Address):
        return (address,)
    inner = address.ipv4_mapped or address.sixtofour
    if inner is None and address.teredo:
        inner = address.teredo[1]
    if inner is None and (address in _NAT64 or (address in _COMPATIBLE and int(address) > 1)):
        inner = IPv4Address(int(address) & 0xFFFFFFFF)
    return (address,) if inner is None else (inner, address)
