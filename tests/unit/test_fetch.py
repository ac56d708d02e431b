"""backend/fetch.py: what a guarded fetch has to survive. No network but servers of its own on loopback."""

from __future__ import annotations

import asyncio
import datetime
import ssl
from collections.abc import Iterator, Sequence
from ipaddress import ip_address
from pathlib import Path

import httpx2
import pytest
from fake_web import (
    BODY,
    LIMITS,
    LOCAL,
    NOT_PUBLIC,
    PUBLIC,
    PUBLIC_2,
    PUBLIC_6,
    Names,
    Web,
    answering,
    fetch_picture,
    names,
    no_names,
    no_network,
    ok,
    page,
    refusal,
    serving,
    to,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from backend import fetch
from backend.addresses import is_public
from backend.errors import FetchError
from backend.fetch import FetchedFile, HostLookup
from backend.types import FetchLimits

# --- the good way --------------------------------------------------------------------------------


async def test_a_picture_through_a_real_connection() -> None:
    heads: list[bytes] = []
    lookup = names(pictures_example=["127.0.0.1"])
    async with serving(answering(ok(), heads=heads)) as port:
        address = f"  http://pictures.example:{port}/a%20b/c%C3%A4t.png?size=2#part \n"
        got = await fetch_picture(address, LOCAL, resolve=lookup)
    assert got == FetchedFile("cät.png", BODY)
    lines = heads[0].decode().split("\r\n")
    assert lines[0] == "GET /a%20b/c%C3%A4t.png?size=2 HTTP/1.1"
    assert f"Host: pictures.example:{port}" in lines
    assert "Accept-Encoding: identity" in lines
    sent = {line.partition(":")[0].lower() for line in lines[1:] if line}
    assert sent == {"host", "user-agent", "accept", "accept-encoding", "connection"}, "no cookie, no referrer"
    assert lookup.asked == ["pictures.example"], "resolved once"


async def test_the_checked_address_is_dialled_under_the_original_name() -> None:
    web = Web({"https://pictures.example/a.png": page()})
    got = await fetch_picture(
        "https://Pictures.Example./a.png",
        LIMITS,
        resolve=names(pictures_example=[PUBLIC, PUBLIC_6]),
        connect=web.connect,
    )
    assert got == FetchedFile("a.png", BODY)
    assert web.dialled == [PUBLIC]
    assert web.requests[0].extensions["sni_hostname"] == "pictures.example"


@pytest.mark.parametrize(
    ("address", "host", "dialled"),
    [
        (f"http://{PUBLIC}/", PUBLIC, PUBLIC),
        (f"http://{PUBLIC}./", PUBLIC, PUBLIC),
        (f"http://[{PUBLIC_6}]:80/", f"[{PUBLIC_6}]", PUBLIC_6),
        ("HTTP://EXAMPLE.com", "example.com", PUBLIC),
        ("http://example.com:80", "example.com", PUBLIC),
        ("http://bücher.example/", "xn--bcher-kva.example", PUBLIC),
        ("http://a_b.example/", "a_b.example", PUBLIC),
    ],
)
async def test_ordinary_spellings_of_public_hosts(address: str, host: str, dialled: str) -> None:
    lookup = Names({name: [[PUBLIC]] for name in ("example.com", "xn--bcher-kva.example", "a_b.example")})
    web = Web({f"http://{host}/": page()})
    assert (await fetch_picture(address, LIMITS, resolve=lookup, connect=web.connect)).data == BODY
    assert web.dialled == [dialled]


async def test_an_address_that_takes_no_connection_gives_way_to_the_next() -> None:
    async with serving(answering(ok())) as port:
        got = await fetch_picture(
            f"http://pictures.example:{port}/", LOCAL, resolve=names(pictures_example=["::1", "127.0.0.1"])
        )
    assert got == FetchedFile("picture", BODY)


async def test_proxy_variables_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(variable, "http://127.0.0.1:1")
    async with serving(answering(ok())) as port:
        assert (await fetch_picture(f"http://127.0.0.1:{port}/a", LOCAL, resolve=no_names)).data == BODY


async def test_a_body_without_a_length_ends_with_the_connection() -> None:
    async with serving(answering(b"HTTP/1.1 200 OK\r\n\r\n", BODY)) as port:
        assert (await fetch_picture(f"http://127.0.0.1:{port}/a", LOCAL)).data == BODY


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/a/b.jpg", "b.jpg"),
        ("/a%2Fb.jpg", "b.jpg"),
        ("/", "picture"),
        ("/%E2%80%AEgpj.exe", "gpj.exe"),
        ("/..%5Cx", "x"),
    ],
)
async def test_the_name_comes_from_the_address_as_written(path: str, name: str) -> None:
    web = Web({f"http://a.example{path}": to("http://b.example/other.png")})
    web.pages["http://b.example/other.png"] = page()
    lookup = names(a_example=[PUBLIC], b_example=[PUBLIC_2])
    assert (
        await fetch_picture(f"http://a.example{path}", LIMITS, resolve=lookup, connect=web.connect)
    ).name == name


async def test_the_real_resolver_knows_localhost() -> None:
    assert set(await HostLookup()("localhost")) & {"127.0.0.1", "::1"}
    assert NOT_PUBLIC in (await refusal("http://localhost/", connect=no_network)).what


# --- hostile addresses ---------------------------------------------------------------------------

PRIVATE = """
    127.0.0.1 127.1.2.3 0.0.0.0 0.1.2.3 10.0.0.1 172.16.0.1 172.31.255.255 192.168.1.1 100.64.0.1
    100.127.255.255 100.100.100.200 169.254.169.254 168.63.129.16 192.0.0.192 192.0.2.1 198.18.0.1
    198.51.100.1 203.0.113.1 192.88.99.1 224.0.0.1 239.255.255.255 240.0.0.1 255.255.255.255
    :: ::1 ::127.0.0.1 ::8.8.8.8 ::ffff:127.0.0.1 ::ffff:8.8.8.8 ::ffff:0:10.0.0.1 64:ff9b::7f00:1
    64:ff9b::808:808 64:ff9b:1::a00:1 100::1 fc00::1 fd00::1 fd00:ec2::254 fe80::1 fec0::1 ff02::1 2001::1
    2001:0:4136:e378:8000:63bf:3fff:fdd2 2001:db8::1 2001:10::1 2002:7f00:1:: 2002:808:808:: 3fff::1 5f00::1
    4000::1 2606:4700::5efe:10.0.0.1 2606:4700::200:5efe:8.8.8.8 ::ffff:7f00:1 ::ffff:a9fe:a9fe
    0:0:0:0:0:ffff:a00:1 ::a9fe:a9fe 2606:4700:64::a9fe:a9fe 2606:4700:a9fe:a9fe:: 2606:4700:64:a9fe:a9:fe00::
    2606:4700:64::64:6464:c800:0 2001:0:4136:e378:8000:63bf:5601:5601 192.0.0.170 169.254.170.2 169.254.42.42
""".split()  # noqa: SIM905
METADATA = """
    169.254.169.254 168.63.129.16 100.100.100.200 192.0.0.192 fd00:ec2::254 fe80::1 224.0.0.1
    ::ffff:169.254.169.254 ::169.254.169.254 64:ff9b::a9fe:a9fe 2002:a9fe:a9fe:: :: 169.254.170.2
    ::ffff:a9fe:a9fe 64:ff9b:1:a9fe:a9:fe00:: 2001:db8:64::a9fe:a9fe fd00:64::a83f:8110 fd00:42::42
""".split()  # noqa: SIM905


@pytest.mark.parametrize("address", PRIVATE)
async def test_private_addresses_are_refused_as_literal_and_as_answer(address: str) -> None:
    assert not is_public(ip_address(address))
    literal = f"[{address}]" if ":" in address else address
    for scheme in ("http", "https"):
        error = await refusal(f"{scheme}://{literal}/a.png", resolve=no_names, connect=no_network)
        assert error.what.endswith(NOT_PUBLIC)
    for answers in ([address], [PUBLIC, address], [address, PUBLIC_6]):
        lookup = names(evil_example=answers)
        error = await refusal("http://evil.example/a.png", resolve=lookup, connect=no_network)
        assert error.what.endswith(NOT_PUBLIC)


@pytest.mark.parametrize(
    "address", [PUBLIC, PUBLIC_2, PUBLIC_6, "1.1.1.1", "172.32.0.1", "100.128.0.1", "2a00:1450::1"]
)
def test_public_addresses_are_public(address: str) -> None:
    assert is_public(ip_address(address))


@pytest.mark.parametrize(
    "address",
    [
        "http://2130706433/",
        "http://0x7f.1/",
        "http://0x7f000001/",
        "http://0X7F.0.0.1/",
        "http://127.1/",
        "http://0177.0.0.1/",
        "http://0177.0.0.1./",
        "http://127.0.0.1../",
        "http://127.0.0.0x1/",
        "http://1.2.3.4.5/",
        "http://999.1.1.1/",
        "http://a.0x/",
        "http://%31%32%37.0.0.1/",
        "http://１２７.0.0.1/",
        "http://①②⑦.0.0.1/",
        "http://127。0。0。1/",
        "http://8．8．8．8/",
        "http://8｡8｡8｡8/",
        "http://example.com:８０/",
        "http://example.com:8_0/",
        "http://example.com:+80/",
        "http://example.com: 80/",
        "http://example.com:-1/",
        "http://@example.com/",
        "http://example.com@/",
        "http://exa%6Dple.com/",
        "http://example.com%2f.evil.example/",
        "http://example.com%00.evil.example/",
        "http://[::1]evil.example/",
        "http://[::1].evil.example/",
        "http://017700000001/",
        "http://0000::1/",
        "http://127.0.0.1:80:80/",
        "http://exa\u202emple.com/",
        "http://example.com\\@127.0.0.1.example/",
        "http://127.0.0.1\\.example.com/",
        "http://exam ple.com/",
        "http://a..example/",
        "http://.example/",
        "http://" + "a" * 64 + ".example/",
        "http://" + "a." * 130 + "example/",
        "http://[::1/",
        "http://[::1]]/",
        "http://[2606:4700::6%81\u200d0]/",
        "http://[127.0.0.1]/",
        "http://[v1.x]/",
        "http:///etc/passwd",
        "http://",
        "http://:80/",
        "http://example.com:port/",
        "http://example.com/\x00",
        "http://example.com/" + "a" * 70_000,
    ],
)
@pytest.mark.parametrize("limits", [LIMITS, LOCAL], ids=["public", "private"])
async def test_odd_spellings_are_refused_unresolved(address: str, limits: FetchLimits) -> None:
    error = await refusal(address, limits, resolve=no_names, connect=no_network)
    assert "is not a valid web address." in error.what or "user name" in error.what


@pytest.mark.parametrize("zone", ["fe80::1%25eth0", "fe80::1%eth0", "2606:4700::1%25eth0", "2606:4700::1%1"])
@pytest.mark.parametrize("limits", [LIMITS, LOCAL], ids=["public", "private"])
async def test_zones_are_refused_in_addresses_and_in_answers(zone: str, limits: FetchLimits) -> None:
    await refusal(f"http://[{zone}]/", limits, resolve=no_names, connect=no_network)
    await refusal("http://evil.example/", limits, resolve=names(evil_example=[zone]), connect=no_network)


@pytest.mark.parametrize("address", METADATA)
async def test_credentials_of_clouds_stay_closed_where_private_addresses_are_allowed(address: str) -> None:
    literal = f"[{address}]" if ":" in address else address
    await refusal(f"http://{literal}/latest/meta-data", LOCAL, resolve=no_names, connect=no_network)
    await refusal("http://evil.example/", LOCAL, resolve=names(evil_example=[address]), connect=no_network)


@pytest.mark.parametrize(
    "address",
    [
        *("ftp://example.com/a.png", "file:///etc/passwd", "gopher://example.com/"),
        *("javascript:alert(1)", "example.com/a.png", "//example.com/a.png", "http:example.com", "", "blob:http://a/b"),
        *("http:\\\\example.com", "ws://example.com", "C:\\a.png", "httpx://example.com/"),
    ],
)  # fmt: skip
async def test_only_http_and_https(address: str) -> None:
    error = await refusal(address, resolve=no_names, connect=no_network)
    assert error.what.endswith("does not begin with https:// or http://.")


@pytest.mark.parametrize(
    "userinfo", ["user", "user:secret", ":secret", "example.com", "a@b:secret", "a%40b:secret"]
)
async def test_user_names_and_passwords_are_refused_and_not_repeated(userinfo: str) -> None:
    error = await refusal(f"http://{userinfo}@example.com/", LOCAL, resolve=no_names, connect=no_network)
    assert "user name or password" in error.what
    assert error.what.startswith("“http://example.com/” ")
    assert "secret" not in str(error)


@pytest.mark.parametrize("port", [0, 1, 22, 25, 6379, 8000, 8080, 8443, 9200, 65536, 99999])
async def test_unusual_ports_are_refused(port: int) -> None:
    error = await refusal(f"http://example.com:{port}/", resolve=no_names, connect=no_network)
    assert f"names port {port};" in error.what


@pytest.mark.parametrize("port", [0, 65536])
async def test_ports_that_do_not_exist_are_refused_everywhere(port: int) -> None:
    await refusal(f"http://example.com:{port}/", LOCAL, resolve=no_names, connect=no_network)


@pytest.mark.parametrize("port", [8080, 8443, 3000])
async def test_other_ports_go_with_private_addresses(port: int) -> None:
    limits = FetchLimits(max_bytes=1000, timeout_s=5, allow_private=True)
    web = Web({f"http://example.com:{port}/": page()})
    lookup = names(example_com=[PUBLIC])
    got = await fetch_picture(f"http://example.com:{port}/", limits, resolve=lookup, connect=web.connect)
    assert got.data == BODY


@pytest.mark.parametrize("port", [80, 443])
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_usual_ports_are_taken(scheme: str, port: int) -> None:
    address = str(httpx2.URL(f"{scheme}://example.com:{port}/"))
    web = Web({address: page()})
    assert await fetch_picture(address, LIMITS, resolve=names(example_com=[PUBLIC]), connect=web.connect)


async def test_a_private_host_and_one_that_does_not_exist_look_the_same() -> None:
    lookup = names(db_internal=["10.0.0.7"], empty_internal=[], odd_internal=["not an address"])
    seen = {
        str(await refusal(f"http://{host}/", resolve=lookup, connect=no_network)).replace(host, "HOST")
        for host in (
            "db.internal",
            "no.such.host",
            "empty.internal",
            "odd.internal",
            "10.0.0.7",
            "[fd00::7]",
        )
    }
    assert len(seen) == 1


async def test_a_resolver_that_chokes_on_a_name() -> None:
    async def choke(host: str) -> Sequence[str]:
        raise UnicodeError(f"label too long: {host}")

    error = await refusal("http://a.example/", resolve=choke, connect=no_network)
    assert error.what.endswith(NOT_PUBLIC)


# --- whatever is written, and whatever a resolver says -------------------------------------------

PIECES = st.sampled_from(
    """
    http:// https:// HTTP:// // / \\ @ : [ ] . .. %2e %00 0x7f 0177 127 127.0.0.1 2130706433 ::1 ::ffff: a9fe
    169.254.169.254 example.com 。 １２７ ⑦ :80 :443 :22 user:pw@ ? # xn--a \u00ad \u200d \u202e ß İ
    """.split()  # noqa: SIM905
)
ADDRESSES = st.one_of(st.text(max_size=40), st.lists(PIECES, max_size=8).map("".join))
ANSWERS = st.lists(st.ip_addresses().map(str) | st.sampled_from([PUBLIC, PUBLIC_6, *PRIVATE]), max_size=3)


@settings(deadline=None)  # on a busy machine
@given(ADDRESSES, ANSWERS, ADDRESSES)
def test_only_public_addresses_are_dialled_and_only_those_that_were_answered(
    address: str, answers: list[str], location: str
) -> None:
    dialled: list[str] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        dialled.append(request.url.host)
        assert request.headers["host"]
        return httpx2.Response(302, headers=[(b"location", location.encode("utf-8", "replace"))])

    async def resolve(host: str) -> Sequence[str]:
        assert not host.replace(".", "").isdigit()
        return answers

    with pytest.raises(FetchError) as caught:
        asyncio.run(
            fetch_picture(address, LIMITS, resolve=resolve, connect=lambda: httpx2.MockTransport(answer))
        )
    assert caught.value.what.startswith("“")
    for host in dialled:
        ip = ip_address(host)
        assert ip.is_global
        assert not ip.is_multicast
        assert not ip.is_reserved
        assert host in map(str, map(ip_address, answers)) or host in address or host in location


# --- rebinding and redirects ---------------------------------------------------------------------


async def test_rebinding_finds_the_name_resolved_once_and_the_checked_address_dialled() -> None:
    lookup = Names({"evil.example": [[PUBLIC], ["127.0.0.1"]]})
    web = Web({"http://evil.example/": page()})
    await fetch_picture("http://evil.example/", LIMITS, resolve=lookup, connect=web.connect)
    assert lookup.asked == ["evil.example"]
    assert web.dialled == [PUBLIC]


async def test_rebinding_between_two_hops_is_refused() -> None:
    lookup = Names({"evil.example": [[PUBLIC], ["127.0.0.1"]]})
    web = Web({"http://evil.example/": to("/again")})
    error = await refusal("http://evil.example/", resolve=lookup, connect=web.connect)
    assert error.what.endswith(NOT_PUBLIC)
    assert web.dialled == [PUBLIC]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_followed_by_name_over_fresh_connections(status: int) -> None:
    web = Web(
        {
            "http://a.example/x/y": to("../z?q=1", status),
            "http://a.example/z?q=1": to("//b.example/p", status),
            "http://b.example/p": to("https://b.example/p", status),
            "https://b.example/p": page(),
        }
    )
    lookup = names(a_example=[PUBLIC], b_example=[PUBLIC])
    assert (
        await fetch_picture("http://a.example/x/y", LIMITS, resolve=lookup, connect=web.connect)
    ).data == BODY
    assert lookup.asked == ["a.example", "a.example", "b.example", "b.example"]
    assert web.connections == 4, "a connection made for one host would show its certificate for another"
    assert not any({"referer", "cookie"} & set(request.headers) for request in web.requests)


@pytest.mark.parametrize(
    ("location", "why"),
    [
        ("http://127.0.0.1/", NOT_PUBLIC),
        ("http://[::ffff:10.0.0.1]/", NOT_PUBLIC),
        ("//169.254.169.254/latest/meta-data", NOT_PUBLIC),
        ("http://inside.example/", NOT_PUBLIC),
        ("http://2130706433/", "not a valid web address."),
        ("http://a.example:22/", "others than 80 and 443 are asked only with --allow-private-addresses."),
        ("http://user:secret@a.example/", "not sent on."),
        ("file:///etc/passwd", "not safe to open."),
        ("ftp://a.example/", "not safe to open."),
        ("javascript:alert(1)", "not safe to open."),
        ("http://[", "not a valid web address."),
    ],
)
async def test_redirects_are_checked_like_the_first_address(location: str, why: str) -> None:
    web = Web({"http://a.example/": to(location)})
    lookup = names(a_example=[PUBLIC], inside_example=["10.0.0.1"])
    error = await refusal("http://a.example/", resolve=lookup, connect=web.connect)
    assert error.what.endswith(why)
    assert "inside" not in str(error)
    assert web.dialled == [PUBLIC]


async def test_a_real_server_cannot_redirect_to_a_private_neighbour() -> None:
    heads: list[bytes] = []
    async with serving(answering(ok(), heads=heads)) as inside:
        moved = (
            b"HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254:%d/\r\nContent-Length: 0\r\n\r\n"
            % inside
        )
        async with serving(answering(moved)) as port:
            assert (await refusal(f"http://127.0.0.1:{port}/", LOCAL)).what.endswith(NOT_PUBLIC)
    assert not heads


async def test_https_never_falls_back_to_http() -> None:
    web = Web({"https://a.example/": to("http://a.example/")})
    error = await refusal("https://a.example/", resolve=names(a_example=[PUBLIC]), connect=web.connect)
    assert error.what.endswith("not safe to open.")
    assert len(web.requests) == 1


@pytest.mark.parametrize(("hops", "taken"), [(fetch.MAX_REDIRECTS, True), (fetch.MAX_REDIRECTS + 1, False)])
async def test_redirects_come_to_an_end(hops: int, taken: bool) -> None:
    web = Web({f"http://a.example/{n}": to(f"/{n + 1}") for n in range(hops)})
    web.pages[f"http://a.example/{hops}"] = page()
    lookup = names(a_example=[PUBLIC])
    if taken:
        assert (
            await fetch_picture("http://a.example/0", LIMITS, resolve=lookup, connect=web.connect)
        ).data == BODY
    else:
        error = await refusal("http://a.example/0", resolve=lookup, connect=web.connect)
        assert "more than 3 times" in error.what
    assert len(web.requests) == 4


# --- TLS -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A certificate for pictures.example that signs itself, with its key, made for this run."""
    pytest.importorskip("cryptography", reason="comes with the engine's packages")
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("pictures.example")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(private + made.public_bytes(pem))
    yield path
    path.unlink()


@pytest.mark.parametrize(
    ("host", "trusted", "taken"),
    [("pictures.example", True, True), ("other.example", True, False), ("pictures.example", False, False)],
)
async def test_the_certificate_is_checked_against_the_original_name(
    certificate: Path, host: str, trusted: bool, taken: bool
) -> None:
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(certificate)
    wanted: list[str | None] = []
    server.sni_callback = lambda _socket, name, _context: wanted.append(name)

    def connect() -> httpx2.AsyncBaseTransport:
        trust = (
            ssl.create_default_context(cafile=str(certificate)) if trusted else ssl.create_default_context()
        )
        return httpx2.AsyncHTTPTransport(verify=trust)

    lookup = Names({host: [["127.0.0.1"]]})
    async with serving(answering(ok()), server) as port:
        address = f"https://{host}:{port}/a.png"
        if taken:
            assert (await fetch_picture(address, LOCAL, resolve=lookup, connect=connect)).data == BODY
        else:
            error = await refusal(address, LOCAL, resolve=lookup, connect=connect)
            assert "no valid certificate" in error.what
    assert wanted == [host]
