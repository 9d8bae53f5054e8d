"""Where webhooks may go: only to addresses of the public internet, unless a setting allows others.

A name is resolved once for each connection, every address is checked, and the connection goes to one that was: a name that
answers differently the next time (DNS rebinding) gains nothing. An address in the URL itself is checked likewise.
"""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from urllib.parse import urlsplit

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

#: The well-known prefix of NAT64: the last 32 bits are an IPv4 address.
_NAT64 = IPv6Network("64:ff9b::/96")
_IPV4_MASK = 0xFFFF_FFFF


class TargetRefused(OSError):
    """A URL or address that webhooks may not go to; the text says why."""


def is_public(text: str) -> bool:
    """Whether an address belongs to the public internet; an IPv6 address that stands for an IPv4 address is judged as that."""
    address: IPv4Address | IPv6Address = ip_address(text.partition("%")[0])
    if isinstance(address, IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
        if inner is None and address in _NAT64:
            inner = IPv4Address(int(address) & _IPV4_MASK)
        if inner is not None:
            address = inner
    return address.is_global and not (address.is_multicast or address.is_reserved or address.is_unspecified)


def check_url(url: str, *, private: bool) -> None:
    """Raise `TargetRefused` for a URL that is no target, whatever its name resolves to."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise TargetRefused(f"not a URL: {error}") from None
    if parts.scheme != "https" and not (private and parts.scheme == "http"):
        raise TargetRefused("the URL does not begin with https://")
    if not host or parts.username is not None or parts.password is not None or parts.fragment:
        raise TargetRefused("the URL has no host, or has a user, a password or a fragment")
    if not url.isascii() or not url.isprintable() or " " in url:
        raise TargetRefused("the URL has characters that have to be encoded")
    try:
        ip_address(host)
    except ValueError:
        return
    check_address(host, private=private)


def check_address(address: str, *, private: bool) -> None:
    """Raise `TargetRefused` for an address that is none of the public internet."""
    if not private and not is_public(address):
        raise TargetRefused(f"{address} is not a public address")


class CheckedResolver(AbstractResolver):
    """Resolves names, and refuses a name as a whole if any of its addresses is refused."""

    def __init__(self, *, private: bool) -> None:
        self._private = private
        self._resolver = ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """The addresses of a name, all of them checked."""
        found = await self._resolver.resolve(host, port, family)
        for one in found:
            check_address(one["host"], private=self._private)
        return found

    async def close(self) -> None:
        """Nothing is open."""
