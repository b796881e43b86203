"""Sends ESP and UDP frames longer than the MTU through AF_PACKET with a virtio_net_hdr of each GSO type: gso.py SENDER RECEIVER.
Prints a JSON object: case -> [errno or 0, frames of IPv4 that came]."""

import json
import socket
import struct
import sys

SOL_PACKET, PACKET_VNET_HDR, NEEDS_CSUM, ETH_P_ALL, IPV4 = 263, 15, 1, 3, b"\x08\x00"
TYPES = {"NONE": 0, "TCPV4": 1, "UDP": 3, "TCPV6": 4, "UDP_L4": 5}


def frame(protocol, payload):
    header = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + payload, 0, 0, 64, protocol, 0, b"\xc0\0\2\1", b"\xc0\0\2\2")
    total = sum(struct.unpack("!10H", header))
    total = (total & 0xFFFF) + (total >> 16)
    header = header[:10] + struct.pack("!H", ~total & 0xFFFF) + header[12:]
    head = struct.pack("!II", 0x1000, 1) if protocol == 50 else struct.pack("!HHHH", 4500, 4500, payload, 0)
    return b"\2\0\0\0\0\2\2\0\0\0\0\1" + IPV4 + header + head + bytes(payload - 8)


receiver = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
receiver.bind((sys.argv[2], ETH_P_ALL))
receiver.settimeout(0.1)
sender = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
sender.bind((sys.argv[1], 0))
sender.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)


def attempt(protocol, payload, gso, csum):
    offset = 6 if protocol == 17 else 0
    header = struct.pack("<BBHHHH", NEEDS_CSUM if csum else 0, gso, 42, 1400, 34 if csum else 0, offset if csum else 0)
    error, came = 0, 0
    try:
        sender.send(header + frame(protocol, payload))
    except OSError as refusal:
        error = refusal.errno
    try:
        while True:
            if receiver.recv(65535)[12:14] == IPV4:
                came += 1
    except socket.timeout:
        return [error, came]


results = {"ESP, short": attempt(50, 1000, 0, False), "UDP, UDP_L4": attempt(17, 4208, TYPES["UDP_L4"], True)}
for name, gso in TYPES.items():
    for csum in (False, True):
        results[f"ESP, {name}{', checksum' if csum else ''}"] = attempt(50, 4208, gso, csum)
print(json.dumps(results))
