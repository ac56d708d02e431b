"""Addresses as people and attackers write them, for ``bench.fuzz_addresses``: each spelling, and nonsense."""

from __future__ import annotations

import random
import string
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address

INSIDE_4 = (
    *("127.0.0.1", "127.127.127.127", "0.0.0.0", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1"),
    *("169.254.169.254", "169.254.170.2", "168.63.129.16", "100.100.100.200", "100.64.0.1", "192.0.0.192"),
    *("192.0.0.1", "192.0.2.1", "192.88.99.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1"),
    *("240.0.0.1", "255.255.255.255"),
)
INSIDE_6 = (
    *("::", "::1", "fe80::1", "fec0::1", "fc00::1", "fd00::1", "fd00:ec2::254", "fd20:ce::254", "ff02::1"),
    *("100::1", "2001:db8::1", "2001:10::1", "3fff::1", "5f00::1", "4000::1", "2001::5601:5601"),
)
PUBLIC_4 = ("93.184.216.34", "8.8.8.8", "1.1.1.1", "140.82.121.4", "172.32.0.1", "100.128.0.1")
PUBLIC_6 = ("2606:4700::6810:84e5", "2a00:1450:4001:80e::200e", "2001:4860:4860::8888")
NAMES = ("localhost", "metadata.google.internal", "instance-data", "kubernetes.default.svc", "router.local")
DIGITS = ("０１２３４５６７８９", "⓪①②③④⑤⑥⑦⑧⑨", "𝟎𝟏𝟐𝟑𝟒𝟓𝟔𝟕𝟖𝟗", "₀₁₂₃₄₅₆₇₈₉")
DOTS = "。．｡․‧"
CREDENTIALS = (
    *("user@", "user:pw@", "@", ":@", "example.com@", "example.com%40", "example.com:80@"),
    *("a@b@", "user\\@"),
)
PORTS = (
    *(":80", ":443", ":22", ":25", ":6379", ":8080", ":0", ":65536", ":-1", ":８０", ":8_0"),
    *(": 80", ":"),
)
SCHEMES = (
    *("http://", "https://", "HTTP://", "http:/", "http:", "//", "\\\\", "http:\\\\"),
    *("ftp://", "file://"),
)
TAILS = (
    *("", "/", "/a.png", "?q", "#f", "/../..", "/%2e%2e/", "\\@evil.example", "/@", "\0"),
    *("\r\nX: y", "%00"),
)


def is_special_4(bits: int) -> bool:
    a, b, c, d = bits.to_bytes(4, "big")
    return (
        a in (0, 10, 127)
        or a >= 224
        or (a == 100 and 64 <= b < 128)
        or (a == 169 and b == 254)
        or (a == 172 and 16 <= b < 32)
        or (a == 192 and (b, c) in ((0, 0), (0, 2), (88, 99)))
        or (a == 192 and b == 168)
        or (a == 198 and b in (18, 19))
        or (a, b, c) in ((198, 51, 100), (203, 0, 113))
        or (a, b, c, d) == (168, 63, 129, 16)
    )


@dataclass(frozen=True)
class Case:
    """An address, and what must become of it: ``inside`` never dialled, ``outside`` dialled, or ``any``."""

    address: str
    expected: str = "any"


class Writer:
    """Spellings of hosts and addresses, after the published lists of ways around filters."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance

    def case(self) -> Case:
        https = self.chance.choice(("http", "https"))
        makers: tuple[Callable[[], Case], ...] = (
            lambda: Case(self.address(self.spelling_4(self.inside_4())), "inside"),
            lambda: Case(self.address(f"[{self.spelling_6(self.inside_4())}]"), "inside"),
            lambda: Case(self.address(self.name()), "inside"),
            lambda: Case(f"{https}://{self.public()}/a.png", "outside"),
            lambda: Case(self.mutated(self.address(self.spelling_4(self.inside_4())))),
            lambda: Case(self.mutated(f"{https}://{self.public()}/a.png")),
            lambda: Case(self.noise()),
        )
        return self.chance.choices(makers, (35, 15, 15, 15, 10, 15, 5))[0]()

    def inside_4(self) -> str:
        if self.chance.random() < 0.7:
            return self.chance.choice(INSIDE_4)
        while True:
            bits = self.chance.getrandbits(32)
            if is_special_4(bits):
                return str(IPv4Address(bits))

    def public(self) -> str:
        pick = self.chance.random()
        if pick < 0.3:
            return self.chance.choice(PUBLIC_4)
        if pick < 0.5:
            return f"[{self.chance.choice(PUBLIC_6)}]"
        return f"public{self.chance.randrange(100)}.example"

    def name(self) -> str:
        dotted = self.inside_4()
        forms = (
            f"{dotted}.nip.io",
            f"{dotted.replace('.', '-')}.sslip.io",
            f"mixed-{dotted.replace('.', '-')}.example",
            f"rebound-{dotted.replace('.', '-')}.example",
            f"wrapped-{dotted.replace('.', '-')}.example",
            self.chance.choice(NAMES),
            f"{self.chance.choice(NAMES)}.",
        )
        return self.chance.choice(forms)

    def spelling_4(self, dotted: str) -> str:
        """One of the ways to write an IPv4 address that some parser takes."""
        bits = int(IPv4Address(dotted))
        parts = dotted.split(".")
        digits, dot = self.chance.choice(DIGITS), self.chance.choice(DOTS)
        forms: tuple[Callable[[], str], ...] = (
            lambda: dotted,
            lambda: str(bits),
            lambda: hex(bits),
            lambda: f"0X{bits:08X}",
            lambda: f"0x{bits:016x}",
            lambda: f"0{bits:o}",
            lambda: f"000{bits:o}",
            lambda: str(bits + (1 << 32)),
            lambda: ".".join(self.part(part) for part in parts),
            lambda: f"{self.part(parts[0])}.{bits & 0xFFFFFF}",
            lambda: f"{self.part(parts[0])}.{self.part(parts[1])}.{bits & 0xFFFF}",
            lambda: ".".join(str(int(part) + 256) for part in parts),
            lambda: dotted.translate({ord(d): digits[int(d)] for d in string.digits}),
            lambda: dotted.replace(".", dot),
            lambda: dotted.replace(".", dot, 1),
            lambda: "".join(f"%{ord(c):02x}" if self.chance.random() < 0.4 else c for c in dotted),
            lambda: f"{dotted}{self.chance.choice(('.', '..', '%00', '%20', ' ', chr(0x3002), chr(0xAD)))}",
            lambda: f"{self.chance.choice(('.', '%09', ' ', chr(0x200B), chr(0xFEFF)))}{dotted}",
        )
        return self.chance.choice(forms)()

    def part(self, decimal: str) -> str:
        number = int(decimal)
        return self.chance.choice((decimal, hex(number), f"0{number:o}", f"00{number:o}", f"0X{number:X}"))

    def spelling_6(self, dotted: str) -> str:
        """IPv6 that is, or holds, an address inside."""
        if self.chance.random() < 0.2:
            return self.chance.choice(INSIDE_6) + self.chance.choice(("", "%25eth0", "%eth0", "%1"))
        bits = int(IPv4Address(dotted))
        high, low = bits >> 16, bits & 0xFFFF
        turned = bits ^ 0xFFFFFFFF
        forms = (
            f"::ffff:{dotted}",
            f"::ffff:{high:x}:{low:x}",
            f"::FFFF:{high:X}:{low:X}",
            f"0:0:0:0:0:ffff:{high:x}:{low:x}",
            f"0000:0000:0000:0000:0000:ffff:{high:04x}:{low:04x}",
            f"::{dotted}",
            f"::{high:x}:{low:x}",
            f"::ffff:0:{high:x}:{low:x}",
            f"64:ff9b::{dotted}",
            f"64:ff9b::{high:x}:{low:x}",
            f"64:ff9b:1::{high:x}:{low:x}",
            f"64:ff9b:1:{high:x}:{low >> 8:x}:{(low & 0xFF) << 8:x}::",
            f"2002:{high:x}:{low:x}::",
            f"2002:{high:x}:{low:x}::{high:x}:{low:x}",
            f"2001:0:4136:e378:8000:63bf:{turned >> 16:x}:{turned & 0xFFFF:x}",
            f"2606:4700::5efe:{dotted}",
            f"2606:4700::200:5efe:{high:x}:{low:x}",
            "2606:4700:64::a9fe:a9fe",  # a NAT64 of one's own prefix, to a cloud's credentials
        )
        return self.chance.choice(forms)

    def address(self, host: str) -> str:
        chance = self.chance
        scheme = chance.choice(SCHEMES[:3]) if chance.random() < 0.8 else chance.choice(SCHEMES)
        before = chance.choice(CREDENTIALS) if chance.random() < 0.2 else ""
        port = chance.choice(PORTS) if chance.random() < 0.2 else ""
        return f"{scheme}{before}{host}{port}{chance.choice(TAILS)}"

    def mutated(self, address: str) -> str:
        characters = list(address)
        for _ in range(self.chance.randint(1, 4)):
            at = self.chance.randrange(len(characters) + 1)
            strange = self.chance.choice("@:/\\#?[]%.\t\r\n\0 _-0xé。／＠：ßİ\u200d\u202e\ud800")
            pick = self.chance.random()
            if pick < 0.4:
                characters.insert(at, strange)
            elif pick < 0.7 and at < len(characters):
                characters[at] = strange
            elif pick < 0.9 and at < len(characters):
                del characters[at]
            else:
                characters[at:at] = characters[max(0, at - 5) : at]
        return "".join(characters)

    def noise(self) -> str:
        length = self.chance.choice((0, 1, 5, 40, 300))
        codes = (self.chance.randrange(self.chance.choice((128, 0xFFFF))) for _ in range(length))
        start = self.chance.choice(("http://", "https://", "data:", "data:;base64,", ""))
        return start + "".join(map(chr, codes)) + "a" * self.chance.choice((0, 0, 70_000))
