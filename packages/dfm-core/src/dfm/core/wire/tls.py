"""TLS 1.3 with a pre-shared key on top of the link, where both ends can (Python 3.13 and newer).

The key comes from the handshake, which has proved both ends already; so there are no certificates, and an end that
leaves its ability out is noticed, since abilities are part of what the proofs are over.
"""

import ssl

TLS_HINT = "both ends need Python 3.13 or newer, with TLS 1.3 and pre-shared keys"
_PSK_IDENTITY = "dfm"


def can_tls() -> bool:
    """Whether this Python can."""
    return bool(getattr(ssl, "HAS_PSK", False) and getattr(ssl, "HAS_TLSv1_3", False))


def tls_context(key: bytes, *, is_server: bool) -> ssl.SSLContext:
    """Return the context of one link."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if is_server else ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_3
    if is_server:
        context.set_psk_server_callback(lambda identity: key if identity == _PSK_IDENTITY else b"", _PSK_IDENTITY)  # type: ignore[attr-defined, unused-ignore]  # Python 3.13
    else:
        context.set_psk_client_callback(lambda _: (_PSK_IDENTITY, key))  # type: ignore[attr-defined, unused-ignore]  # Python 3.13
    return context
