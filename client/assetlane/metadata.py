"""Takes metadata out of a picture's file before a decoder sees it, and reads what cuts need of it.

Text, XMP, EXIF and profiles do not change a pixel, and are where files are damaged or huge most often: a decoder
that parses them would refuse the whole picture for one of them. What is kept is what the pixels need.
Only two things of the metadata are read here: the EXIF orientation, and the ICC profile. Pure, without Pillow.

Sources: PNG 3rd edition (W3C), ITU-T T.81 and Exif 2.32 for JPEG, TIFF 6.0 and the BigTIFF design, ICC.1:2022
annex B, ISO/IEC 23008-12 for HEIC and AVIF, GIF89a.
"""

import io
import re
import struct
import zlib
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import accumulate
from typing import IO, Any

MAX_ICC_BYTES = 4 * 1024**2  # of a profile that is read at all
MAX_EXIF_BYTES = 1024**2  # of EXIF that is looked through for the orientation
MAX_IFD_ENTRIES = 4096
MAX_GIF_BLOCKS = 10_000  # before the first frame
MAX_PNG_CHUNKS = 1_000_000

_ORIENTATION = 0x0112
_EXIF_SIGN = b"Exif\0\0"
_ICC_SIGN = b"ICC_PROFILE\0"
_PNG_KEPT = frozenset({b"tRNS"})  # of the chunks that a decoder may ignore
# APP0 and APP14 say how colours are stored; all others, and comments, are metadata.
_JPEG_DROPPED = frozenset({0xFE, *range(0xE1, 0xEE), 0xEF})
_JPEG_ALONE = frozenset({0x01, *range(0xD0, 0xD9)})
_JPEG_SCAN, _JPEG_EXIF, _JPEG_ICC = 0xDA, 0xE1, 0xE2
# Baseline tags that describe pixels, and those of compression, tiles and colour spaces.
_TIFF_KEPT = frozenset(
    {256, 257, 258, 259, 262, 266, 273, 277, 278, 279, 284, 290, 291, 292, 293, 317, 320, 322, 323, 324, 325, 332,
     338, 339, 347, 512, 513, 514, 529, 530, 531, 532, 34925}
)  # fmt: skip
_TIFF_ICC, _TIFF_TILE_WIDTH, _TIFF_TILE_LENGTH = 34675, 322, 323
_TIFF_BITS, _TIFF_PHOTOMETRIC, _TIFF_SAMPLES = 258, 262, 277
_TIFF_SINGLE = frozenset(
    {256, 257, 259, 262, 266, 277, 278, 284, 290, 292, 293, 317, 322, 323, 332, 512, 513, 514, 531}
)
_TIFF_MOST_SAMPLES = 6  # of a pixel: Pillow reads no more, and would say so on the terminal
_WHITE_IS_ZERO, _BLACK_IS_ZERO = 0, 1
_TIFF_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_TIFF_FORMS = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 13: "I", 16: "Q", 17: "q", 18: "Q"}
_SHORT, _LONG = 3, 4
# An item of type Exif: version and flags in 4 bytes, its number in 2 or 4, protection in 2.
_HEIF_EXIF = re.compile(rb"infe.{4}(?:.{4}|.{6})Exif", re.DOTALL)
_HEIF_CODING = re.compile(rb"colr(?:nclx(..)(..)|prof|rICC)", re.DOTALL)
_HEIF_META_BYTES = 1024**2


@dataclass(frozen=True, slots=True)
class StrippedFile:
    """What is left of a file.

    `stream`: the file without metadata. `orientation`: as EXIF has it, 1 to 8. `icc`: the profile, None when there is
    none that can be read. `coding`: primaries and transfer by their numbers in ISO/IEC 23091-2, None when the file
    does not say, or a profile says something else.
    Of a GIF, `frame`: where its first frame lies on the screen (left, top, right, bottom).
    Of a TIFF, `tile`: the size of a tile, None when it has none; `bits`: of a sample; `inverted`: whether samples of
    more than 8 bits rise from white to black (`stream` says the contrary: Pillow refuses such a file or ignores it).
    """

    stream: IO[bytes]
    orientation: int = 1
    icc: bytes | None = None
    frame: tuple[int, int, int, int] | None = None
    tile: tuple[int, int] | None = None
    bits: int = 0
    inverted: bool = False
    coding: tuple[int, int] | None = None


def essentials(stream: IO[bytes], name: str) -> StrippedFile:
    """Returns what a decoder needs of a picture that Pillow calls `name`.

    Where the file is damaged, the rest is left as it is, for the decoder to refuse; but for a TIFF, of which Pillow
    would write on the terminal: raises EOFError, struct.error.
    """
    if name == "TIFF":
        return _tiff(stream)
    try:
        match name:
            case "PNG":
                return _png(stream)
            case "JPEG":
                return _jpeg(stream)
            case "GIF":
                return StrippedFile(stream, frame=_first_frame(stream))
            case "AVIF" | "HEIF":
                return _boxes(stream)
    except (struct.error, EOFError):
        pass  # it ends, or points, where it should not
    finally:
        stream.seek(0)
    return StrippedFile(stream)


def orientation_of(exif: bytes) -> int:
    """Returns the orientation in EXIF data, 1 to 8; 1 for damaged data."""
    body = exif.removeprefix(_EXIF_SIGN)[:MAX_EXIF_BYTES]
    order = {b"II": "<", b"MM": ">"}.get(body[:2])
    if order is None or len(body) < 8:
        return 1
    try:
        (start,) = struct.unpack_from(f"{order}I", body, 4)
        (count,) = struct.unpack_from(f"{order}H", body, start)
        for index in range(min(count, MAX_IFD_ENTRIES)):
            tag, kind, _ = struct.unpack_from(f"{order}HHI", body, start + 2 + 12 * index)
            if tag == _ORIENTATION and kind in (_SHORT, _LONG):
                form = "H" if kind == _SHORT else "I"
                return _valid(struct.unpack_from(f"{order}{form}", body, start + 10 + 12 * index)[0])
    except struct.error:
        return 1
    return 1


def _valid(orientation: int) -> int:
    return orientation if 1 <= orientation <= 8 else 1


def _png(stream: IO[bytes]) -> StrippedFile:
    kept = _Kept()
    kept.keep(0, 8)
    at, depth, color_type = 8, 8, 0
    orientation, icc, coding = 1, None, None
    for _ in range(MAX_PNG_CHUNKS):
        stream.seek(at)
        head = stream.read(8)
        if len(head) < 8:
            break  # cut off, or without an end
        length, kind = struct.unpack(">I4s", head)
        end = at + length + 12
        is_optional = bool(kind[0] & 0x20)
        if not is_optional:
            if kind == b"IHDR":
                depth, color_type = struct.unpack(">8xBB", _read(stream, 10))
            kept.keep(at, end)
        elif kind in (b"eXIf", b"iCCP", b"tRNS", b"cICP") and length <= MAX_ICC_BYTES:
            body = stream.read(length)
            if stream.read(4) == struct.pack(">I", zlib.crc32(kind + body)):
                if kind == b"eXIf":
                    orientation = orientation_of(body)
                elif kind == b"iCCP":
                    icc = _inflated(body.partition(b"\0")[2][1:])
                elif kind == b"cICP":
                    coding = (body[0], body[1]) if length == 4 else None
                else:
                    kept.add(_chunk(kind, _eight_bit_key(body, depth, color_type)))
        if kind == b"IEND":
            break
        at = end
    return StrippedFile(kept.opened(stream), orientation, icc, coding=coding)


def _eight_bit_key(body: bytes, depth: int, color_type: int) -> bytes:
    """Returns the transparent colour as Pillow compares it: with samples that are scaled to 8 bits already.

    Grey of 16 bits stays as it is: its samples do too.
    """
    grey, rgb = 0, 2
    if color_type == grey and depth < 8 and len(body) == 2:
        (level,) = struct.unpack(">H", body)
        return struct.pack(">H", level * 255 // (2**depth - 1)) if level < 2**depth else body
    if color_type == rgb and depth == 16 and len(body) == 6:
        return struct.pack(">3H", *(level >> 8 for level in struct.unpack(">3H", body)))
    return body


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _inflated(data: bytes) -> bytes | None:
    """Returns a compressed profile; None when it is damaged or larger than is read."""
    inflater = zlib.decompressobj()
    try:
        profile = inflater.decompress(data, MAX_ICC_BYTES + 1)
    except zlib.error:
        return None
    return profile if inflater.eof and len(profile) <= MAX_ICC_BYTES else None


def _jpeg(stream: IO[bytes]) -> StrippedFile:
    kept = _Kept()
    kept.keep(0, 2)
    at, orientation = 2, 0
    profile: dict[int, bytes] = {}
    profile_parts, profile_bytes = 0, 0
    while True:
        stream.seek(at)
        head = stream.read(4)
        if len(head) < 4 or head[0] != 0xFF or head[1] in (0x00, _JPEG_SCAN):
            break  # the pixels begin, or what only a decoder may make sense of
        marker = head[1]
        if marker == 0xFF:  # a filler
            at += 1
            continue
        if marker in _JPEG_ALONE:
            kept.keep(at, at + 2)
            at += 2
            continue
        length = int.from_bytes(head[2:])
        if length < 2:
            break
        end = at + 2 + length
        if marker not in _JPEG_DROPPED:
            kept.keep(at, end)
        elif marker == _JPEG_EXIF and not orientation:
            body = stream.read(length - 2)
            if body.startswith(_EXIF_SIGN):
                orientation = orientation_of(body)
        elif marker == _JPEG_ICC:
            body = stream.read(length - 2)
            if body.startswith(_ICC_SIGN) and len(body) > 14 and profile_bytes <= MAX_ICC_BYTES:
                profile[body[12]], profile_parts = body[14:], body[13]
                profile_bytes += len(body)
        at = end
    kept.keep(at, None)
    is_whole = 0 < profile_parts == len(profile) and profile_bytes <= MAX_ICC_BYTES
    icc = b"".join(profile[number] for number in sorted(profile)) if is_whole else None
    return StrippedFile(kept.opened(stream), orientation or 1, icc)


@dataclass(frozen=True, slots=True)
class _Layout:
    """How an IFD is written: classic TIFF or BigTIFF."""

    order: str
    number: str  # the form of counts and offsets within an entry
    count: str  # the form of the number of entries
    inline_bytes: int

    @property
    def entry_bytes(self) -> int:
        """The length of an entry: tag, type, count, and a value or where the values are."""
        return 4 + 2 * self.inline_bytes

    def parts(self, entry: bytes) -> tuple[int, int, int, int]:
        """Returns tag, type and count of an entry, and where its values are; 0: in the entry itself."""
        tag, kind, count, place = struct.unpack(f"{self.order}HH{self.number * 2}", entry)
        return tag, kind, count, place if count * _TIFF_SIZES.get(kind, 0) > self.inline_bytes else 0

    def value(self, kind: int, entry: bytes) -> int:
        """Returns the first number that an entry holds itself; 0 for what is no whole number."""
        form = _TIFF_FORMS.get(kind)
        return int(struct.unpack_from(f"{self.order}{form}", entry, 4 + self.inline_bytes)[0]) if form else 0

    def single(self, tag: int, kind: int, value: bytes) -> bytes:
        """Returns an entry of one value that is in the entry itself."""
        head = struct.pack(f"{self.order}HH{self.number}", tag, kind, 1)
        return head + value[: self.inline_bytes].ljust(self.inline_bytes, b"\0")


def _tiff(stream: IO[bytes]) -> StrippedFile:
    """Leaves of the first directory what describes pixels, in order; other pages go. Raises EOFError, struct.error."""
    whole_bytes = stream.seek(0, io.SEEK_END)
    stream.seek(0)
    head = _read(stream, 8)
    order = "<" if head[:2] == b"II" else ">"
    (version,) = struct.unpack_from(f"{order}H", head, 2)
    if version == 43:
        layout, head = _Layout(order, "Q", f"{order}Q", 8), _read(stream, 8)
        (start,) = struct.unpack(f"{order}Q", head)
    else:
        layout = _Layout(order, "I", f"{order}H", 4)
        (start,) = struct.unpack_from(f"{order}I", head, 4)
    if start >= whole_bytes:
        raise EOFError
    stream.seek(start)
    (count,) = struct.unpack(layout.count, _read(stream, struct.calcsize(layout.count)))
    if count > MAX_IFD_ENTRIES:
        raise EOFError
    table = _read(stream, count * layout.entry_bytes)
    orientation, icc = 1, None
    numbers: dict[int, int] = {}
    entries: dict[int, bytes] = {}
    for at in range(0, len(table), layout.entry_bytes):
        entry = table[at : at + layout.entry_bytes]
        tag, kind, number, place = layout.parts(entry)
        size_bytes = number * _TIFF_SIZES.get(kind, 0)
        if not size_bytes or place + size_bytes > whole_bytes:
            continue  # of a kind that nobody knows, or beyond the end
        numbers[tag] = 0 if place else layout.value(kind, entry)
        if tag == _ORIENTATION:
            orientation = _valid(numbers[tag])
        elif tag == _TIFF_ICC and place and number == size_bytes <= MAX_ICC_BYTES:
            stream.seek(place)
            icc = stream.read(number)
        elif tag in _TIFF_SINGLE and number > 1:
            if not place:
                entries[tag] = layout.single(tag, kind, entry[-layout.inline_bytes :])
        elif tag in _TIFF_KEPT:
            entries[tag] = entry
    if numbers.get(_TIFF_SAMPLES, 1) > _TIFF_MOST_SAMPLES:
        raise EOFError
    inverted = numbers.get(_TIFF_PHOTOMETRIC) == _WHITE_IS_ZERO and 8 < numbers.get(_TIFF_BITS, 1) <= 64
    if inverted:
        said = struct.pack(f"{order}H", _BLACK_IS_ZERO)
        entries[_TIFF_PHOTOMETRIC] = layout.single(_TIFF_PHOTOMETRIC, _SHORT, said)
    rows = b"".join(entries[tag] for tag in sorted(entries))
    directory = struct.pack(layout.count, len(entries)) + rows + bytes(layout.inline_bytes)
    kept = _Kept()
    kept.keep(0, start)
    kept.add(directory)
    kept.keep(start + len(directory), None)
    is_tiled = {_TIFF_TILE_WIDTH, _TIFF_TILE_LENGTH} <= numbers.keys()
    return StrippedFile(
        kept.opened(stream),
        orientation,
        icc,
        tile=(numbers[_TIFF_TILE_WIDTH], numbers[_TIFF_TILE_LENGTH]) if is_tiled else None,
        bits=numbers.get(_TIFF_BITS, 1),
        inverted=inverted,
    )


def _first_frame(stream: IO[bytes]) -> tuple[int, int, int, int] | None:
    head = _read(stream, 13)
    if head[10] & 0x80:
        stream.seek(3 << ((head[10] & 7) + 1), io.SEEK_CUR)
    for _ in range(MAX_GIF_BLOCKS):
        kind = _read(stream, 1)
        if kind == b",":
            left, top, width, height = struct.unpack("<4H", _read(stream, 8))
            return left, top, left + width, top + height
        if kind != b"!":
            return None
        _read(stream, 1)
        while size := _read(stream, 1)[0]:
            stream.seek(size, io.SEEK_CUR)
    return None


def _boxes(stream: IO[bytes]) -> StrippedFile:
    """Gives the EXIF item of an HEIC or AVIF file a type that nobody reads.

    Its own properties turn such a picture, EXIF does not: ISO/IEC 23000-22, 7.3.10. How colours are coded counts only
    when all that is said of it agrees: a second one may be that of a gain map.
    """
    start = stream.read(_HEIF_META_BYTES)
    kept, at = _Kept(), 0
    for found in _HEIF_EXIF.finditer(start):
        kept.keep(at, found.end() - 4)
        kept.add(b"skip")
        at = found.end()
    kept.keep(at, None)
    codings = {found.groups() for found in _HEIF_CODING.finditer(start)}
    coding = None
    if len(codings) == 1 and None not in (numbers := codings.pop()):
        coding = int.from_bytes(numbers[0]), int.from_bytes(numbers[1])
    return StrippedFile(kept.opened(stream), coding=coding)


def _read(stream: IO[bytes], size: int) -> bytes:
    """Returns exactly so many bytes. Raises EOFError."""
    data = stream.read(size)
    if len(data) < size:
        raise EOFError
    return data


@dataclass(slots=True)
class _Kept:
    """The pieces of a new file: bytes, or from where to where in the old one."""

    pieces: list[bytes | tuple[int, int | None]] = field(default_factory=list)

    def keep(self, start: int, end: int | None) -> None:
        """Keeps what lies there in the old file; None: to its end."""
        if self.pieces and isinstance(last := self.pieces[-1], tuple) and last[1] == start:
            self.pieces[-1] = (last[0], end)
        elif end is None or end > start:
            self.pieces.append((start, end))

    def add(self, data: bytes) -> None:
        """Adds bytes of our own."""
        self.pieces.append(data)

    def opened(self, stream: IO[bytes]) -> IO[bytes]:
        """Returns the new file, open; it reads from the old one."""
        if self.pieces == [(0, None)]:
            return stream
        whole = stream.seek(0, io.SEEK_END)
        return io.BufferedReader(_Pieces(stream, [*self._measured(whole)]), 64 * 1024)

    def _measured(self, whole_bytes: int) -> Iterator[bytes | tuple[int, int]]:
        for piece in self.pieces:
            if isinstance(piece, bytes):
                yield piece
            else:
                end = whole_bytes if piece[1] is None else min(piece[1], whole_bytes)
                if end > piece[0]:
                    yield piece[0], end


class _Pieces(io.RawIOBase):
    """A file that is made of pieces of another one, and of bytes."""

    def __init__(self, stream: IO[bytes], pieces: list[bytes | tuple[int, int]]) -> None:
        super().__init__()
        self._stream = stream
        self._pieces = pieces
        sizes = (len(piece) if isinstance(piece, bytes) else piece[1] - piece[0] for piece in pieces)
        self._starts = [0, *accumulate(sizes)]  # of each piece in this file, and its end
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._starts[-1]}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, buffer: Any, /) -> int:  # a writable buffer; collections.abc.Buffer is of Python 3.12
        index = bisect_right(self._starts, self._at) - 1
        if index >= len(self._pieces):
            return 0
        piece, inside = self._pieces[index], self._at - self._starts[index]
        wanted = min(len(memoryview(buffer)), self._starts[index + 1] - self._at)
        if isinstance(piece, bytes):
            data = piece[inside : inside + wanted]
        else:
            self._stream.seek(piece[0] + inside)
            data = self._stream.read(wanted)
        memoryview(buffer)[: len(data)] = data
        self._at += len(data)
        return len(data)
