"""What bytes are, by how they begin; and whether they fit the media type that they are declared as. Pure.

The client declares by it what it is going to store, the server proves by it what arrived: what the one recognises
the other accepts. It needs the first SNIFFED_BYTES of a file and nothing but the standard library.

Sources: the WHATWG MIME Sniffing Standard; ISO/IEC 14496-12 and 23008-12 (`ftyp`); RFC 8794 (EBML), RFC 3533 (Ogg);
ISO/IEC 13818-1 (transport streams), 11172-3 (MPEG audio frames); ISO 32000-1 with Annex H (bytes before `%PDF`).
"""

import re
from collections.abc import Callable, Mapping

SNIFFED_BYTES = 4096

PDF = "application/pdf"
HTML = "text/html"
XML = "application/xml"
SVG = "image/svg+xml"
TEXT = "text/plain"
SCRIPT = "application/x-shellscript"
PHP = "application/x-httpd-php"
ZIP = "application/zip"
OLE = "application/x-ole-storage"
EXECUTABLE = "application/vnd.microsoft.portable-executable"
TEXTS = frozenset({HTML, XML, SVG, TEXT, SCRIPT, PHP, "application/rtf", "application/postscript"})

_OOXML = "application/vnd.openxmlformats-officedocument."

# Other names of one type, as callers use them.
_ALIASES = {
    "application/ogg": "video/ogg",
    "application/mp4": "video/mp4",
    "application/vnd.ms-asf": "video/x-ms-asf",
    "application/x-matroska": "video/x-matroska",
    "application/x-pdf": PDF,
    "application/x-photoshop": "image/vnd.adobe.photoshop",
    "audio/aacp": "audio/aac",
    "audio/aiff": "audio/x-aiff",
    "audio/amr-wb": "audio/amr",
    "audio/amr-wb+": "audio/amr",
    "audio/m4a": "audio/mp4",
    "audio/m4b": "audio/mp4",
    "audio/matroska": "video/x-matroska",
    "audio/mid": "audio/midi",
    "audio/mp3": "audio/mpeg",
    "audio/mpeg3": "audio/mpeg",
    "audio/opus": "audio/ogg",
    "audio/sp-midi": "audio/midi",
    "audio/speex": "audio/ogg",
    "audio/vnd.wave": "audio/wav",
    "audio/vorbis": "audio/ogg",
    "audio/wave": "audio/wav",
    "audio/x-aac": "audio/aac",
    "audio/x-au": "audio/basic",
    "audio/x-flac": "audio/flac",
    "audio/x-m4a": "audio/mp4",
    "audio/x-m4b": "audio/mp4",
    "audio/x-m4p": "audio/mp4",
    "audio/x-matroska": "video/x-matroska",
    "audio/x-mid": "audio/midi",
    "audio/x-midi": "audio/midi",
    "audio/x-mp3": "audio/mpeg",
    "audio/x-mpeg": "audio/mpeg",
    "audio/x-mpeg-3": "audio/mpeg",
    "audio/x-ogg": "audio/ogg",
    "audio/x-pn-realaudio": "application/vnd.rn-realmedia",
    "audio/x-pn-wav": "audio/wav",
    "audio/x-realaudio": "application/vnd.rn-realmedia",
    "audio/x-speex": "audio/ogg",
    "audio/x-vorbis+ogg": "audio/ogg",
    "audio/x-wav": "audio/wav",
    "audio/x-wma": "audio/x-ms-wma",
    "image/apng": "image/png",
    "image/avcs": "image/heif",
    "image/avci": "image/heif",
    "image/avif-sequence": "image/avif",
    "image/heic": "image/heif",
    "image/heic-sequence": "image/heif",
    "image/heif-sequence": "image/heif",
    "image/ico": "image/vnd.microsoft.icon",
    "image/icon": "image/vnd.microsoft.icon",
    "image/j2k": "image/jp2",
    "image/jpeg2000": "image/jp2",
    "image/jpg": "image/jpeg",
    "image/jpm": "image/jp2",
    "image/jpx": "image/jp2",
    "image/mpo": "image/jpeg",
    "image/pjpeg": "image/jpeg",
    "image/psd": "image/vnd.adobe.photoshop",
    "image/svg": SVG,
    "image/tif": "image/tiff",
    "image/vnd.mozilla.apng": "image/png",
    "image/x-bmp": "image/bmp",
    "image/x-icon": "image/vnd.microsoft.icon",
    "image/x-ms-bmp": "image/bmp",
    "image/x-photoshop": "image/vnd.adobe.photoshop",
    "image/x-png": "image/png",
    "image/x-psd": "image/vnd.adobe.photoshop",
    "image/x-tiff": "image/tiff",
    "image/x-windows-bmp": "image/bmp",
    "video/avi": "video/x-msvideo",
    "video/divx": "video/x-msvideo",
    "video/flv": "video/x-flv",
    "video/matroska": "video/x-matroska",
    "video/mp2p": "video/mpeg",
    "video/msvideo": "video/x-msvideo",
    "video/vnd.avi": "video/x-msvideo",
    "video/vnd.rn-realvideo": "application/vnd.rn-realmedia",
    "video/x-m4v": "video/mp4",
    "video/x-matroska-3d": "video/x-matroska",
    "video/x-mpeg": "video/mpeg",
    "video/x-ms-vob": "video/mpeg",
    "video/x-ms-wm": "video/x-ms-asf",
    "video/x-ogm": "video/ogg",
    "video/x-theora+ogg": "video/ogg",
}

# Types whose files always begin with their signature: what has none is not of that type.
SIGNED = frozenset(
    {
        "image/avif", "image/bmp", "image/gif", "image/heif", "image/jp2", "image/jpeg", "image/jxl", "image/png",
        "image/tiff", "image/vnd.adobe.photoshop", "image/vnd.microsoft.icon", "image/webp", PDF,
    }
)  # fmt: skip

_ISO = frozenset({"video/mp4", "audio/mp4", "video/quicktime", "video/3gpp", "video/3gpp2"})
_MATROSKA = frozenset({"video/webm", "video/x-matroska"})
_OGG = frozenset({"audio/ogg", "video/ogg"})
_ASF = frozenset({"video/x-ms-asf"})
# What comes in one container: the bytes alone may not say whether there is a picture beside the sound.
_CONTAINERS: Mapping[str, frozenset[str]] = {
    **dict.fromkeys((*_ISO, "audio/3gpp", "audio/3gpp2", "video/x-f4v"), _ISO),
    **dict.fromkeys((*_MATROSKA, "audio/webm"), _MATROSKA),
    **dict.fromkeys(_OGG, _OGG),
    **dict.fromkeys((*_ASF, "video/x-ms-wmv", "audio/x-ms-wma"), _ASF),
    "audio/aac": _ISO | {"audio/aac", "audio/mpeg"},  # an ID3 tag in front, or the container of a phone
    "audio/amr": _ISO | {"audio/amr"},
    "audio/basic": frozenset({"audio/basic"}),
    "audio/flac": _OGG | {"audio/flac", "audio/mpeg"},  # an ID3 tag in front
    "audio/midi": frozenset({"audio/midi"}),
    "audio/mpeg": frozenset({"audio/mpeg", "audio/aac"}),
    "audio/wav": frozenset({"audio/wav"}),
    "audio/x-aiff": frozenset({"audio/x-aiff"}),
    "application/vnd.rn-realmedia": frozenset({"application/vnd.rn-realmedia", TEXT}),  # .ram names another file
    "video/mp2t": frozenset({"video/mp2t"}),
    "video/mpeg": frozenset({"video/mpeg", "video/mp2t"}),
    "video/x-flv": _ISO | {"video/x-flv"},
    "video/x-msvideo": frozenset({"video/x-msvideo"}),
}
# Picture formats whose first bytes look like those of another kind.
_PICTURES: Mapping[str, frozenset[str]] = {
    "image/eps": frozenset({"application/postscript"}),
    "image/openraster": frozenset({ZIP}),
    "image/x-eps": frozenset({"application/postscript"}),
}


def is_sniffed(media_type: str) -> bool:
    """Returns whether anything can be said about bytes of this type (bare, in lower case)."""
    canonical = _ALIASES.get(media_type, media_type)
    return canonical in SIGNED or canonical in _CONTAINERS or _major(canonical) in ("image", "audio", "video")


def fits(media_type: str, start: bytes) -> bool:
    """Returns whether a file of this type (bare, in lower case) can begin so.

    Nothing fits everything, and so does a type that is not sniffed. What always has its signature has to have it;
    of other sound, video and pictures only what surely is something else does not fit.
    """
    declared = _ALIASES.get(media_type, media_type)
    if not start or not is_sniffed(declared):
        return True
    found = detected(start)
    if declared == PDF:  # readers search the first KiB (ISO 32000-1, H.3.4.1)
        return found == PDF or (found in ("", TEXT) and b"%PDF-" in start[:1024] and start[:2] != b"MZ")
    if declared in SIGNED:
        canonical = _ALIASES.get(found, found)
        # HEIF is the container of AVIF too.
        return canonical == declared or (media_type.startswith("image/heif") and found == "image/avif")
    if start[:2] == b"MZ":  # a program, whatever follows
        return False
    if declared == SVG:
        return found in ("", SVG, XML, TEXT)
    if declared in _CONTAINERS:
        return not found or found in _CONTAINERS[declared]
    if not found or found == TEXT:  # a drawing or a playlist of an unknown kind may well be text
        return True
    return (
        found in _PICTURES.get(declared, ())
        or _kind(found) == _kind(declared)
        or (found == XML and declared.endswith("+xml"))
    )


def detected(start: bytes) -> str:
    """Returns the media type that bytes which begin so surely have; empty when that cannot be said.

    Of what comes in one container the usual type: an MP4 file is `video/mp4` unless its brand says that it is sound.
    """
    for signature, media_type in _SIGNATURES:
        if start.startswith(signature):
            return _TELLERS[media_type](start) if media_type in _TELLERS else media_type
    if start[4:8] == b"ftyp":
        return _iso_base_media(start)
    if (text := as_text(start)) is not None:
        return _text_type(text)
    for signature, media_type in _WORDS:
        if start.startswith(signature):
            return _TELLERS[media_type](start) if media_type in _TELLERS else media_type
    for look in _LOOKS:
        if media_type := look(start):
            return media_type
    return ""


def as_text(start: bytes) -> str | None:
    """Returns the text that the bytes are, without its byte order mark; None when they are no text.

    UTF-8, UTF-16 with its mark, or mostly ASCII in a code page that is not known. The last letter may be cut off.
    """
    if not start:
        return None
    for mark, encoding in ((b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be")):
        if start.startswith(mark):
            text = start[2:].decode(encoding, errors="replace").rstrip("\ufffd")
            return None if _CONTROL_LETTER.search(text) or "\ufffd" in text else text
    bare = start.removeprefix(b"\xef\xbb\xbf")
    if _BINARY.search(bare):
        return None
    try:
        return bare.decode()
    except UnicodeDecodeError as error:
        if error.reason == "unexpected end of data" and len(start) >= SNIFFED_BYTES - 3:
            return bare[: error.start].decode()
    ascii_bytes = sum(byte < 0x80 for byte in bare)
    return bare.decode("latin-1") if ascii_bytes >= 0.7 * len(bare) and len(bare) >= 8 else None


# WHATWG MIME Sniffing, 7.1: "binary data byte".
_BINARY = re.compile(rb"[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f]")
_CONTROL_LETTER = re.compile("[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f]")

_SIGNATURES: tuple[tuple[bytes, str], ...] = (
    # No text begins like these.
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"II\x2a\x00", "image/tiff"),
    (b"MM\x00\x2a", "image/tiff"),
    (b"II\x2b\x00", "image/tiff"),  # BigTIFF
    (b"MM\x00\x2b", "image/tiff"),
    (b"II\x00\x2a", "image/tiff"),  # what some writers get wrong, and Pillow reads
    (b"MM\x2a\x00", "image/tiff"),
    (b"\x00\x00\x00\x0cJXL \r\n\x87\n", "image/jxl"),
    (b"\xff\x0a", "image/jxl"),
    (b"\x00\x00\x00\x0cjP  \r\n\x87\n", "image/jp2"),
    (b"\xff\x4f\xff\x51", "image/jp2"),
    (b"II\xbc\x01", "image/jxr"),
    (b"II\x55\x00", "image/x-panasonic-rw2"),
    (b"\x76\x2f\x31\x01", "image/x-exr"),
    (b"\x1a\x45\xdf\xa3", "video/x-matroska"),  # distinguished from WebM below
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "video/x-ms-asf"),
    (b"\x00\x00\x01\xba", "video/mpeg"),
    (b"\x00\x00\x01\xb3", "video/mpeg"),
    (b"#!AMR", "audio/amr"),
    (b".ra\xfd", "application/vnd.rn-realmedia"),
    (b"PK\x03\x04", ZIP),
    (b"PK\x05\x06", ZIP),
    (b"PK\x07\x08", ZIP),
    (b"PK00PK\x03\x04", ZIP),
    (b"\x1f\x8b", "application/gzip"),
    (b"\xfd7zXZ\x00", "application/x-xz"),
    (b"\x28\xb5\x2f\xfd", "application/zstd"),
    (b"\x04\x22\x4d\x18", "application/x-lz4"),
    (b"7z\xbc\xaf\x27\x1c", "application/x-7z-compressed"),
    (b"Rar!\x1a\x07", "application/vnd.rar"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", OLE),
    (b"SQLite format 3\x00", "application/vnd.sqlite3"),
    (b"\x7fELF", "application/x-elf"),
    (b"\xca\xfe\xba\xbe", "application/java-vm"),  # and Apple's programs for several machines
    (b"\xfe\xed\xfa\xce", "application/x-mach-binary"),
    (b"\xfe\xed\xfa\xcf", "application/x-mach-binary"),
    (b"\xce\xfa\xed\xfe", "application/x-mach-binary"),
    (b"\xcf\xfa\xed\xfe", "application/x-mach-binary"),
    (b"\x00asm", "application/wasm"),
    (b"\x4c\x00\x00\x00\x01\x14\x02\x00", "application/x-ms-shortcut"),
    (b"\xed\xab\xee\xdb", "application/x-rpm"),
    (b"!<arch>\n", "application/x-archive"),
    (b"\x89HDF\r\n\x1a\n", "application/x-hdf5"),
    (b"\xc5\xd0\xd3\xc6", "application/postscript"),
    (b"%PDF-", PDF),
)
_WORDS: tuple[tuple[bytes, str], ...] = (
    # Words that a text may begin with: asked of what is no text.
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"OggS", "audio/ogg"),  # distinguished from video below
    (b"fLaC", "audio/flac"),
    (b"MThd", "audio/midi"),
    (b"ID3", "audio/mpeg"),
    (b".snd", "audio/basic"),
    (b".RMF", "application/vnd.rn-realmedia"),
    (b"FLV\x01", "video/x-flv"),
    (b"caff\x00", "audio/x-caf"),
    (b"MAC ", "audio/x-ape"),
    (b"wvpk", "audio/x-wavpack"),
    (b"8BPS", "image/vnd.adobe.photoshop"),
    (b"AT&TFORM", "image/vnd.djvu"),
    (b"FUJIFILMCCD-RAW", "image/x-fuji-raf"),
    (b"IIRO", "image/x-olympus-orf"),
    (b"IIRS", "image/x-olympus-orf"),
    (b"BZh", "application/x-bzip2"),
    (b"\x1f\x9d", "application/x-compress"),
    (b"LZIP", "application/x-lzip"),
    (b"MSCF\x00", "application/vnd.ms-cab-compressed"),
    (b"PAR1", "application/vnd.apache.parquet"),
    (b"glTF", "model/gltf-binary"),
    (b"wOFF", "font/woff"),
    (b"wOF2", "font/woff2"),
    (b"OTTO", "font/otf"),
    (b"ttcf", "font/collection"),
    (b"dex\n", "application/vnd.android.dex"),
    (b"MZ", EXECUTABLE),
    (b"%!PS", "application/postscript"),
)

_AVIF_BRANDS = frozenset({b"avif", b"avis"})
_HEIC_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"})
_HEIF_BRANDS = frozenset({b"mif1", b"mif2", b"msf1", b"miaf", b"avci", b"avcs", b"jpeg", b"jpgs", b"vvic", b"vvis"})
_FILM_BRANDS = frozenset({b"isom", b"mp41", b"mp42", b"qt  ", b"M4V ", b"M4A ", b"avc1"})
_SOUND_BRANDS = frozenset({b"M4A ", b"M4B ", b"M4P ", b"F4A ", b"F4B "})


def _iso_base_media(start: bytes) -> str:
    """Returns what an ISO base media file is by all of its brands: which one stands first says little."""
    size = int.from_bytes(start[:4]) or len(start)
    box = start[: min(size, len(start))]
    major = start[8:12]
    brands = {major, *(box[at : at + 4] for at in range(16, len(box) - 3, 4))}
    if b"crx " in brands:
        return "image/x-canon-cr3"
    if brands & _AVIF_BRANDS:
        return "image/avif"
    if brands & _HEIC_BRANDS:
        return "image/heic"
    # These say only that there are pictures in it: a film may carry its poster so.
    if major in _HEIF_BRANDS or (brands & _HEIF_BRANDS and not brands & _FILM_BRANDS):
        return "image/heif"
    if major in _SOUND_BRANDS:
        return "audio/mp4"
    if major == b"qt  ":
        return "video/quicktime"
    if major[:3] == b"3g2":
        return "video/3gpp2"
    if major[:3] in (b"3gp", b"3gr", b"3gs", b"3ge", b"3gg"):
        return "video/3gpp"
    return "video/mp4"


def _matroska(start: bytes) -> str:
    """WebM is Matroska with `webm` as its DocType (element 0x4282)."""
    at = start.find(b"\x42\x82")
    return "video/webm" if at >= 0 and start[at + 3 : at + 7] == b"webm" else "video/x-matroska"


def _ogg(start: bytes) -> str:
    """The first page of each stream names its codec."""
    films = (b"\x80theora", b"\x01video\x00", b"BBCD\x00", b"OVP80", b"fishead\x00")
    return "video/ogg" if any(codec in start for codec in films) else "audio/ogg"


def _zip(start: bytes) -> str:
    """OpenDocument and EPUB begin with their type; Office documents are recognised by the names of their parts."""
    if start[30:38] == b"mimetype" and start[8:10] == b"\x00\x00":
        declared = start[38 : 38 + int.from_bytes(start[18:22], "little")][:128]
        if re.fullmatch(rb"application/[a-z0-9.+-]+|image/openraster", declared):
            return declared.decode()
    if b"[Content_Types].xml" in start or b"_rels/.rels" in start:
        for part, document in (
            (b"word/", "wordprocessingml.document"),
            (b"xl/", "spreadsheetml.sheet"),
            (b"ppt/", "presentationml.presentation"),
        ):
            if part in start:
                return _OOXML + document
    return ZIP


_TELLERS: Mapping[str, Callable[[bytes], str]] = {"video/x-matroska": _matroska, "audio/ogg": _ogg, ZIP: _zip}


_ATOMS = frozenset({b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot", b"styp", b"sidx", b"moof", b"emsg", b"prft"})


def _atom(start: bytes) -> str:
    """QuickTime files without `ftyp`, and segments of a stream."""
    if start[4:8] not in _ATOMS:
        return ""
    return "video/mp4" if start[4:8] in (b"styp", b"sidx", b"moof", b"emsg", b"prft") else "video/quicktime"


def _riff(start: bytes) -> str:
    if start[:4] in (b"RIFF", b"RIFX", b"RF64"):
        form = start[8:12]
        return {
            b"WEBP": "image/webp",
            b"WAVE": "audio/wav",
            b"AVI ": "video/x-msvideo",
            b"RMID": "audio/midi",
            b"ACON": "application/x-navi-animation",
        }.get(form, "")
    if start[:4] == b"FORM" and start[8:12] in (b"AIFF", b"AIFC"):
        return "audio/x-aiff"
    return ""


_BMP_HEADERS = frozenset({12, 16, 40, 52, 56, 64, 108, 124})


def _bitmap(start: bytes) -> str:
    if start[:2] == b"BM" and int.from_bytes(start[14:18], "little") in _BMP_HEADERS:
        return "image/bmp"
    # Icons and cursors: a count, and in its first entry a byte that should be zero; .NET writes 255.
    if start[:4] in (b"\x00\x00\x01\x00", b"\x00\x00\x02\x00") and 0 < int.from_bytes(start[4:6], "little") < 256:
        return "image/vnd.microsoft.icon" if start[9:10] in (b"\x00", b"\xff") else ""
    return ""


def _transport_stream(start: bytes) -> str:
    """MPEG-TS: packets of 188 bytes, of 192 on discs and cameras, of 204 off the air.

    A recording may begin within a packet: then every packet that is to be seen has to show its sync byte, since a few
    of them in a row are found in other files too.
    """
    for packet, lead in ((188, 0), (192, 4), (204, 0)):
        syncs = start[lead::packet]
        if len(syncs) >= 3 and not syncs[:5].strip(b"\x47"):
            return "video/mp2t"
        at = start.find(0x47, 0, packet)
        while at >= 0:
            syncs = start[at::packet]
            if len(syncs) >= 10 and not syncs.strip(b"\x47"):
                return "video/mp2t"
            at = start.find(0x47, at + 1, packet)
    return ""


# ISO/IEC 11172-3 and 13818-3: kbit/s by index, samples a second by index.
_RATES = {
    (True, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_SAMPLES = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}


def _mpeg_frame(start: bytes, at: int) -> int:
    """Returns the length of the MPEG audio frame there, 0 when there is none."""
    if len(start) < at + 4 or start[at] != 0xFF or start[at + 1] & 0xE0 != 0xE0:
        return 0
    version, layer = start[at + 1] >> 3 & 3, 4 - (start[at + 1] >> 1 & 3)
    rate, samples, padding = start[at + 2] >> 4, start[at + 2] >> 2 & 3, start[at + 2] >> 1 & 1
    if version == 1 or layer == 4 or rate in (0, 15) or samples == 3:
        return 0
    is_mpeg1 = version == 3
    bits = _RATES[is_mpeg1, layer if is_mpeg1 else min(layer, 2)][rate - 1] * 1000
    hertz = _SAMPLES[version][samples]
    if layer == 1:
        return (12 * bits // hertz + padding) * 4
    return (144 if is_mpeg1 or layer == 2 else 72) * bits // hertz + padding


def _mpeg_audio(start: bytes) -> str:
    """MP3 without a tag: a frame, and another one where it ends if that is to be seen."""
    length = _mpeg_frame(start, 0)
    if not length:
        return ""
    return "audio/mpeg" if _mpeg_frame(start, length) or len(start) < length + 4 else ""


def _adts(start: bytes) -> str:
    """AAC as a stream of frames (ISO/IEC 13818-7), checked as MPEG audio is."""
    if start[:4] == b"ADIF":
        return "audio/aac"
    if len(start) < 7 or start[0] != 0xFF or start[1] & 0xF6 != 0xF0 or start[2] >> 2 & 15 > 12:
        return ""
    length = (start[3] & 3) << 11 | start[4] << 3 | start[5] >> 5
    if length < 7:
        return ""
    if len(start) < length + 2:
        return "audio/aac"
    return "audio/aac" if start[length] == 0xFF and start[length + 1] & 0xF6 == 0xF0 else ""


def _tape(start: bytes) -> str:
    if start[257:262] == b"ustar":
        return "application/x-tar"
    return "application/x-mobipocket-ebook" if start[60:68] == b"BOOKMOBI" else ""


_LOOKS: tuple[Callable[[bytes], str], ...] = (
    _riff,
    _bitmap,
    _atom,
    _mpeg_audio,
    _adts,
    _tape,
    _transport_stream,
)

_COMMENT = r"<!--.*?-->|<\?.*?\?>|\s+"
_PROLOG = re.compile(rf"(?:{_COMMENT})*", re.DOTALL)
_DOCTYPE = re.compile(r"<!DOCTYPE\s+(?P<name>[\w:.-]+)(?:[^\[>]|\[[^\]]*\])*+>", re.DOTALL | re.IGNORECASE)
_TAG = re.compile(r"</?(?P<name>[A-Za-z][\w:.-]*)(?=[\s/>]|$)")
_PAGE_TAGS = frozenset(
    {
        "html", "head", "script", "iframe", "h1", "div", "font", "table", "a", "style", "title", "b", "body", "br",
        "p", "img", "form", "input", "link", "meta", "base", "object", "embed", "frameset", "noscript", "template",
        "video", "audio", "marquee", "center",
    }
)  # fmt: skip


def _text_type(text: str) -> str:
    """Returns what kind of text it is, as far as that matters: pages and scripts run where they are opened."""
    if text.startswith("#!"):
        return SCRIPT
    bare = text.lstrip()
    if bare[:5].lower() == "<?php" or bare.startswith("<?="):
        return PHP
    if bare.startswith("%!PS"):
        return "application/postscript"
    if bare.startswith("{\\rtf"):
        return "application/rtf"
    if bare.startswith("%PDF-"):
        return PDF
    if not bare.startswith("<"):
        return TEXT
    at = _end(_PROLOG, bare, 0)
    if doctype := _DOCTYPE.match(bare, at):
        if doctype["name"].lower() == "html":
            return HTML
        at = _end(_PROLOG, bare, doctype.end())
    elif bare[at : at + 14].lower() == "<!doctype html":
        return HTML
    if tag := _TAG.match(bare, at):
        name = tag["name"].lower().rpartition(":")[2]
        if name in _PAGE_TAGS:
            return HTML
        if name == "svg":
            return SVG
    return XML if bare.startswith("<?xml") else TEXT


def _end(pattern: re.Pattern[str], text: str, at: int) -> int:
    match = pattern.match(text, at)
    return match.end() if match else at


def _major(media_type: str) -> str:
    return media_type.partition("/")[0]


def _kind(media_type: str) -> str:
    """Returns whether a type is a picture, or sound or video; other types are not checked."""
    major = _major(media_type)
    return "media" if major in ("audio", "video") or media_type == "application/vnd.rn-realmedia" else major
