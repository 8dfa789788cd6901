"""Where calls out may go: what an environment's file says, and how it reaches the functions that call.

Addresses are of three tiers. **Never**: metadata of clouds, link-local and what no server can have; no setting allows
them. **Private**: loopback, private networks and everything else that is not globally reachable; allowed by a list of
networks. Everything else is allowed. The tables are the special-purpose registries of IANA
(iana.org/assignments/iana-ipv4-special-registry and iana-ipv6-special-registry, RFC 6890), each with its RFC.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import Final, Literal

Network = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address

# Variables of functions that call out.
PRIVATE_VARIABLE: Final = "OFFLOAD_EGRESS_PRIVATE"
SCHEMES_VARIABLE: Final = "OFFLOAD_EGRESS_SCHEMES"
PORTS_VARIABLE: Final = "OFFLOAD_EGRESS_PORTS"
ANY_PORT: Final = "*"

# Network, name of the rule, what it is. The first that holds the address tells its rule.
NEVER: Final[tuple[tuple[Network, str, str], ...]] = tuple(
    (ip_network(cidr), rule, what)
    for cidr, rule, what in (
        # docs.aws.amazon.com: AWSEC2 instancedata-data-retrieval; AmazonECS task-metadata-endpoint-v4; eks pod-id.
        ("169.254.169.254/32", "metadata", "the metadata of the cloud's instances"),
        ("169.254.170.2/32", "metadata", "the credentials of AWS's containers"),
        ("169.254.170.23/32", "metadata", "the credentials of AWS's pods"),
        ("fd00:ec2::/32", "metadata", "AWS's instance services over IPv6"),
        ("fd20:ce::254/128", "metadata", "the metadata of Google's instances"),
        ("100.100.100.200/32", "metadata", "the metadata of Alibaba's instances"),
        ("168.63.129.16/32", "metadata", "Azure's services for its own machines"),
        ("192.0.0.192/32", "metadata", "the metadata of Oracle's instances"),
        ("0.0.0.0/8", "unspecified", "this host on this network (RFC 791)"),
        ("169.254.0.0/16", "link-local", "link-local (RFC 3927)"),
        ("255.255.255.255/32", "broadcast", "broadcast (RFC 919)"),
        ("224.0.0.0/4", "multicast", "multicast (RFC 5771)"),
        ("240.0.0.0/4", "reserved", "reserved (RFC 1112)"),
        ("192.0.0.0/24", "reserved", "assigned to protocols (RFC 6890)"),
        ("192.88.99.0/24", "reserved", "the former 6to4 relay (RFC 7526)"),
        ("192.0.2.0/24", "documentation", "for documents only (RFC 5737)"),
        ("198.51.100.0/24", "documentation", "for documents only (RFC 5737)"),
        ("203.0.113.0/24", "documentation", "for documents only (RFC 5737)"),
        ("::/128", "unspecified", "the unspecified address (RFC 4291)"),
        ("fe80::/10", "link-local", "link-local (RFC 4291)"),
        ("fec0::/10", "reserved", "site-local, given up (RFC 3879)"),
        ("ff00::/8", "multicast", "multicast (RFC 4291)"),
        ("2001:db8::/32", "documentation", "for documents only (RFC 3849)"),
        ("3fff::/20", "documentation", "for documents only (RFC 9637)"),
        ("100::/64", "reserved", "discarded by routers (RFC 6666)"),
        ("100:0:0:1::/64", "reserved", "a dummy prefix (RFC 9780)"),
        ("5f00::/16", "reserved", "segment routing (RFC 9602)"),
    )
)

PRIVATE: Final[tuple[tuple[Network, str, str], ...]] = tuple(
    (ip_network(cidr), rule, what)
    for cidr, rule, what in (
        ("127.0.0.0/8", "loopback", "loopback (RFC 1122)"),
        ("::1/128", "loopback", "loopback (RFC 4291)"),
        ("10.0.0.0/8", "private", "private use (RFC 1918)"),
        ("172.16.0.0/12", "private", "private use (RFC 1918)"),
        ("192.168.0.0/16", "private", "private use (RFC 1918)"),
        ("100.64.0.0/10", "shared", "shared by a provider's customers (RFC 6598)"),
        ("198.18.0.0/15", "benchmarking", "for benchmarks (RFC 2544)"),
        ("fc00::/7", "unique-local", "unique local (RFC 4193)"),
        ("2001:2::/48", "benchmarking", "for benchmarks (RFC 5180)"),
        ("64:ff9b:1::/48", "translation", "local translation to IPv4 (RFC 8215)"),
    )
)


class UnusableEgress(ValueError):
    """What an environment says of calls out is wrong; the message is one line, and names the value."""


def networks(cidrs: Iterable[str]) -> tuple[Network, ...]:
    """The networks that `cidrs` write ("10.0.0.0/8", "fd12::/16"), for the tier of private addresses.

    Raises UnusableEgress for what is not a network, has bits below its prefix, or overlaps the never tier, other than
    by addresses of metadata within a private network.
    """
    found = []
    for cidr in cidrs:
        try:
            network: Network = ip_network(cidr)
        except ValueError as error:
            raise UnusableEgress(f"'{cidr}' is no network: {error}") from error
        for never, rule, what in NEVER:
            # Metadata within a private network: the network may be listed, and the never tier goes first.
            aside = any(_within(never, around) for around, _, _ in PRIVATE)
            if _within(network, never) or (_within(never, network) and not aside):
                raise UnusableEgress(f"'{cidr}' overlaps {never}, {what}: nothing allows it (rule {rule})")
        found.append(network)
    return tuple(found)


def _within(one: Network, other: Network) -> bool:
    """Whether all of `one` is in `other`."""
    return one.version == other.version and one.network_address in other and one.prefixlen >= other.prefixlen


def variables(
    private: Iterable[str], schemes: Iterable[str], ports: Iterable[int] | Literal["any"]
) -> Mapping[str, str]:
    """The variables by which a function learns where it may call; `ports` is numbers or "any"."""
    return {
        PRIVATE_VARIABLE: ",".join(private),
        SCHEMES_VARIABLE: ",".join(schemes),
        PORTS_VARIABLE: ANY_PORT if ports == "any" else ",".join(str(port) for port in ports),
    }
