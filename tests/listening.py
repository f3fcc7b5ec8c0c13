"""The ports at which processes listen."""

import ipaddress
from contextlib import suppress

import psutil


def listening(process: psutil.Process) -> list[tuple[str, int]]:
    """Address and port of every TCP socket that listens; none of a process that has ended."""
    with suppress(psutil.NoSuchProcess):
        sockets = process.net_connections("inet")
        return [tuple(one.laddr) for one in sockets if one.status == psutil.CONN_LISTEN]
    return []


def is_loopback(port: tuple[str, int]) -> bool:
    address = ipaddress.ip_address(port[0])
    mapped = getattr(address, "ipv4_mapped", None)  # ::ffff:127.0.0.1
    return (mapped or address).is_loopback
