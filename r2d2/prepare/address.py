"""Decides which addresses of the web are asked, and which redirections are followed."""

from __future__ import annotations

import errno
import ipaddress
import socket
from urllib.parse import SplitResult, urljoin, urlsplit

from r2d2.storage.errors import PlaceError

MAX_REDIRECTS = 5
# Addresses of IPv6 that hold one of IPv4, which may be an inner one: NAT64, 6to4, Teredo, the oldest form.
_TUNNELS = [
    ipaddress.ip_network(network)
    for network in ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32", "::/96")
]


def check_address(url: str, content_is_known: bool) -> None:
    """Refuses an address whose content anybody on the way could replace.

    Plain HTTP is for this machine, and for a file whose SHA-256 is known.

    Args:
        url: of the file.
        content_is_known: whether the SHA-256 of the file will be compared.

    Raises:
        PlaceError: if it is no address of the web, or plain HTTP is not allowed.
    """
    parts = _parts(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise PlaceError(errno.EINVAL, "it is no address of the web; write https://HOST/PATH", url)
    if parts.scheme == "http" and not content_is_known and not _is_loopback(parts.hostname):
        reason = (
            "anybody on the way may replace what comes by plain HTTP; write https://, or give its --sha256"
        )
        raise PlaceError(errno.EACCES, reason, url)


def redirected(url: str, location: str, content_is_known: bool) -> str:
    """Resolves a redirection, and refuses one that a stranger could misuse.

    Args:
        url: that was asked.
        location: the answer's header, absolute or relative.
        content_is_known: as in `check_address`.

    Raises:
        PlaceError: if it leaves the web or TLS, or leads from the internet to a machine of an inner network,
            which a stranger could otherwise have this one ask.
    """
    try:
        target = urljoin(url, location)
    except ValueError as error:
        raise PlaceError(errno.EINVAL, f"it redirects to what is no address ({error})", url) from error
    check_address(target, content_is_known)
    here, there = _parts(url), _parts(target)
    if here.scheme == "https" and there.scheme != "https":
        raise PlaceError(errno.EACCES, f"it redirects from https to {target}", url)
    if here.hostname != there.hostname and _is_inner(there.hostname) and not _is_inner(here.hostname):
        raise PlaceError(errno.EACCES, f"it redirects to an inner address, {target}", url)
    return target


def _parts(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise PlaceError(errno.EINVAL, f"it is no address ({error})", url) from error
    return parts


def _is_loopback(host: str) -> bool:
    return host == "localhost" or _address(host).is_loopback


def _is_inner(host: str | None) -> bool:
    """Whether a host has an address that the internet does not reach; a name is looked up."""
    try:
        found = socket.getaddrinfo(host, None, proto=socket.IPPROTO_TCP)
    except OSError:
        # The request itself will say so.
        return False
    addresses = [ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]
    return any(not a.is_global or any(a in tunnel for tunnel in _TUNNELS) for a in addresses)


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """The host as an IP address; for a name an address that is nobody's."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return ipaddress.IPv4Address(0)
