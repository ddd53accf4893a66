"""Content Credentials as the official library reads them, in files that are signed here."""

from __future__ import annotations

import datetime
import socket
from pathlib import Path

import pytest

from tests.clips import barcode_frames, write_clip
from torchfakes_cli.facts import CredentialsState
from torchfakes_cli.video.isolation.client import IsolatedDecoder
from torchfakes_cli.video.metadata import read_credentials

c2pa = pytest.importorskip("c2pa", reason="needs the extra c2pa")

from cryptography import x509  # noqa: E402 - comes with c2pa
from cryptography.hazmat.primitives import hashes, serialization  # noqa: E402
from cryptography.hazmat.primitives.asymmetric import ec  # noqa: E402
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID  # noqa: E402

MANIFEST = {
    "claim_generator_info": [{"name": "Test camera", "version": "7"}],
    "title": "a clip",
    "assertions": [
        {
            "label": "c2pa.actions",
            "data": {
                "actions": [
                    {
                        "action": "c2pa.created",
                        "digitalSourceType": "http://cv.iptc.org/newscodes/digitalsourcetype/digitalCapture",
                    }
                ]
            },
        }
    ],
}


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", barcode_frames(8))


def certificate(subject: str, key: ec.EllipticCurvePrivateKey, issuer: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    """Makes a certificate of the authority if it issues its own, otherwise of a signer."""
    is_authority = key is issuer
    names = [
        x509.Name(
            [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Makers"), x509.NameAttribute(NameOID.COMMON_NAME, name)]
        )
        for name in ("Authority", subject)
    ]
    usage = dict.fromkeys(
        (
            "content_commitment",
            "key_encipherment",
            "data_encipherment",
            "key_agreement",
            "encipher_only",
            "decipher_only",
        ),
        False,
    )
    builder = (
        x509.CertificateBuilder(*names, key.public_key(), x509.random_serial_number())
        .not_valid_before(datetime.datetime(2024, 1, 1))
        .not_valid_after(datetime.datetime(2050, 1, 1))
        .add_extension(x509.BasicConstraints(is_authority, None), critical=True)
        .add_extension(
            x509.KeyUsage(
                digital_signature=not is_authority, key_cert_sign=is_authority, crl_sign=is_authority, **usage
            ),
            critical=True,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.public_key()), critical=False)
    )
    if not is_authority:
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=False)
    return builder.sign(issuer, hashes.SHA256())


def sign(clip: Path, signed: Path, *, kept_at: str = "") -> Path:
    """Signs a clip; with an address the manifest isn't embedded."""
    authority, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    chain = [certificate("Test signer", key, authority), certificate("Authority", authority, authority)]
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    pem = b"".join(each.public_bytes(serialization.Encoding.PEM) for each in chain)
    builder = c2pa.Builder(MANIFEST)
    if kept_at:
        builder.set_no_embed()
        builder.set_remote_url(kept_at)
    signer = c2pa.Signer.from_info(c2pa.C2paSignerInfo(b"es256", pem, private, None))
    with clip.open("rb") as source, signed.open("w+b") as target:
        builder.sign(signer, "video/mp4", source, target)
    return signed


def test_credentials_of_an_unchanged_file(clip: Path, tmp_path: Path) -> None:
    with IsolatedDecoder() as decoder:
        credentials = decoder.describe(sign(clip, tmp_path / "signed.mp4")).credentials
    assert credentials.state is CredentialsState.VALID
    told = {fact.name: fact.value for fact in credentials.facts}
    assert told["made with"] == "Test camera 7"
    assert told["signed by"] == "Test signer"
    assert told["certificate of"] == "Makers"
    assert ("c2pa.created", "source: digitalCapture") in [(fact.value, fact.why) for fact in credentials.facts]


def test_credentials_of_a_changed_file_are_invalid(clip: Path, tmp_path: Path) -> None:
    signed = sign(clip, tmp_path / "signed.mp4")
    content = bytearray(signed.read_bytes())
    content[-200] ^= 0xFF
    signed.write_bytes(content)
    credentials = read_credentials(signed)
    assert credentials.state is CredentialsState.INVALID
    assert any("mismatch" in problem for problem in credentials.problems)


def test_a_manifest_that_is_garbage_is_unreadable(clip: Path, tmp_path: Path) -> None:
    signed = sign(clip, tmp_path / "signed.mp4")
    content = bytearray(signed.read_bytes())
    start = content.index(b"jumb") + 300
    content[start : start + 40] = b"\xff" * 40
    signed.write_bytes(content)
    credentials = read_credentials(signed)
    assert credentials.state in (CredentialsState.UNREADABLE, CredentialsState.INVALID)
    assert credentials.problems


def test_most_files_have_none(clip: Path) -> None:
    assert read_credentials(clip).state is CredentialsState.NONE


def test_remote_manifest_is_not_fetched(clip: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        address = f"http://127.0.0.1:{server.getsockname()[1]}/manifest.c2pa"
        try:
            signed = sign(clip, tmp_path / "signed.mp4", kept_at=address)
        except c2pa.C2paError as error:
            pytest.skip(f"this library puts no address into MP4: {error}")
        credentials = read_credentials(signed)
        with pytest.raises(TimeoutError):
            server.accept()
    assert credentials.state in (CredentialsState.UNREADABLE, CredentialsState.NONE)
