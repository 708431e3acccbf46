"""Files that run script wherever a browser takes them for a page, and the media types to try them under."""

import gzip
from collections.abc import Callable

# How a body says that it ran: each beacon is a URL that only a running script asks for.
Body = Callable[[str], bytes]


def _script(beacon: str) -> str:
    return f"new Image().src='{beacon}';document.title='ran';"


def page(beacon: str) -> bytes:
    """An HTML page, which is also what browsers sniff for."""
    return f"<!DOCTYPE html><html><body><h1>x</h1><script>{_script(beacon)}</script></body></html>".encode()


def xhtml(beacon: str) -> bytes:
    """XML in which an element of XHTML and one of SVG would run: any type that is taken for XML will do."""
    # No `<`, `>` or `&` in the script: it is well-formed.
    return (
        '<?xml version="1.0"?><root><script xmlns="http://www.w3.org/1999/xhtml">'
        f"new Image().src='{beacon}';</script>"
        '<svg xmlns="http://www.w3.org/2000/svg"><script>document.title="ran"</script></svg></root>'
    ).encode()


def drawing(beacon: str) -> bytes:
    """An SVG picture."""
    return (
        '<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" width="9" height="9">'
        f"<script>new Image().src='{beacon}'</script></svg>"
    ).encode()


def compressed_drawing(beacon: str) -> bytes:
    """The same as `.svgz`."""
    return gzip.compress(drawing(beacon))


def program(beacon: str) -> bytes:
    """JavaScript, with a page in it for browsers that sniff."""
    return f"/*<script>{_script(beacon)}</script>*/{_script(beacon)}".encode()


def parts(beacon: str) -> bytes:
    """Several parts, each a page."""
    part = b"--x\r\nContent-Type: text/html\r\n\r\n" + page(beacon) + b"\r\n"
    return part * 2 + b"--x--\r\n"


def message(beacon: str) -> bytes:
    """A mail that is a page, in the form of a saved one (MHTML)."""
    return (
        b"From: a@b.example\r\nSubject: x\r\nMIME-Version: 1.0\r\n"
        b'Content-Type: multipart/related; type="text/html"; boundary="x"\r\n\r\n' + parts(beacon)
    )


def document(beacon: str) -> bytes:
    """A PDF whose script calls out as soon as it is opened; behind its end a page for browsers that sniff."""
    script = f"app.alert('ran');app.launchURL('{beacon}',true);this.submitForm('{beacon}')"
    objects = [
        "<</Type/Catalog/Pages 2 0 R/OpenAction 4 0 R>>",
        "<</Type/Pages/Kids[3 0 R]/Count 1>>",
        "<</Type/Page/Parent 2 0 R/MediaBox[0 0 99 99]>>",
        f"<</Type/Action/S/JavaScript/JS({script.replace('(', chr(92) + '(').replace(')', chr(92) + ')')})>>",
    ]
    body, places = "%PDF-1.7\n", []
    for number, one in enumerate(objects, 1):
        places.append(len(body))
        body += f"{number} 0 obj\n{one}\nendobj\n"
    table = "".join(f"{place:010} 00000 n \n" for place in places)
    tail = f"xref\n0 5\n0000000000 65535 f \n{table}trailer<</Size 5/Root 1 0 R>>\nstartxref\n{len(body)}\n%%EOF\n"
    return (body + tail).encode() + page(beacon)


PAGES = (
    *("text/html", "TEXT/HTML", "text/html;charset=utf-8", "Text/Html; charset=UTF-7", "text/x-server-parsed-html"),
    *("unknown/unknown", "application/unknown", "Unknown/Unknown", "application/x-unheard-of", "x/y", "image/x"),
    *("application/octet-stream", "binary/octet-stream", "application/x-msdownload", "application/hta"),
    *("text/plain", "text/plain;charset=utf-8", "text/css", "text/csv", "text/markdown", "application/json"),
    *("text/x-component", "text/cache-manifest", "application/gzip", "image/png", "image/jpeg", "image/gif"),
    *("image/webp", "image/avif", "image/heic", "image/x-icon", "audio/mpeg", "video/mp4", "video/x"),
    *("video/webm;codecs=vp8,opus", "font/woff2", "message/http"),
)  # fmt: skip
XML = (
    *("text/xml", "application/xml", "Application/XML", "text/xml;charset=utf-8", "text/xsl", "TEXT/XSL"),
    *("application/xslt+xml", "application/xhtml+xml", "application/xhtml+xml; charset=utf-8", "application/rdf+xml"),
    *("application/rss+xml", "application/atom+xml", "application/soap+xml", "application/mathml+xml"),
    *("application/vnd.mozilla.xul+xml", "application/vnd.google-earth.kml+xml", "application/gpx+xml"),
    *("application/vnd.wap.xhtml+xml", "application/smil+xml", "application/dash+xml", "application/ttml+xml"),
    *("application/voicexml+xml", "application/wsdl+xml", "application/xspf+xml", "application/xop+xml"),
    *("application/xml-dtd", "application/xml-external-parsed-entity", "text/xml-external-parsed-entity"),
    *("model/x3d+xml", "model/vnd.collada+xml", "message/imdn+xml", "multipart/x+xml", "font/x+xml", "haptics/x+xml"),
    *("image/x+xml", "audio/x+xml", "video/x+xml", "Video/X+XML", "text/x+xml", "application/x+xml", "x/y+xml"),
)  # fmt: skip
SCRIPTS = (
    *("text/javascript", "application/javascript", "application/x-javascript", "application/ecmascript"),
    *("text/ecmascript", "text/javascript1.0", "text/javascript1.1", "text/javascript1.5", "text/jscript"),
    *("text/livescript", "text/x-javascript", "text/x-ecmascript", "application/x-ecmascript", "application/wasm"),
)  # fmt: skip
TABLE: tuple[tuple[str, Body], ...] = (
    *((one, page) for one in PAGES),
    *((one, xhtml) for one in XML),
    *((one, program) for one in SCRIPTS),
    ("image/svg+xml", drawing),
    ("IMAGE/SVG+XML", drawing),
    ("image/svg+xml; charset=utf-8", drawing),
    ("image/svg+xml-compressed", compressed_drawing),
    ("image/svg+xml", compressed_drawing),
    ("image/svg-xml", drawing),
    ("multipart/x-mixed-replace;boundary=x", parts),
    ("multipart/x-mixed-replace", page),
    ("multipart/mixed; boundary=x", parts),
    ("multipart/related; boundary=x", parts),
    ("multipart/form-data; boundary=x", parts),
    ("message/rfc822", message),
    ("message/rfc822", page),
    ("application/x-mimearchive", message),
    ("application/pdf", document),
    ("application/pdf", page),
    ("Application/PDF", document),
)
WILDCARDS = ("*/*", "text/*", "image/*", "*/html", "image/*+xml", "*/x+xml")
