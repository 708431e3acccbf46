"""Which media type a file is declared as: by its name, and by how its bytes begin where the two disagree.

By name the same on every machine: npm's mime-db (`mime_db.json`, see `make mime-db`), and before it the table below,
which has what mime-db lacks (source code, archives, RAW pictures) or leaves open. A compressed file is what it is
compressed as, never what is inside: `data.csv.gz` is `application/gzip`.
"""

import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files

from assetlane.detection import EXECUTABLE, HTML, OLE, PDF, TEXT, TEXTS, XML, ZIP, detected, fits, is_sniffed

NEUTRAL = "application/octet-stream"
TYPESCRIPT = "text/x-typescript"

_RANKS = {"iana": 3, "apache": 2, "nginx": 1}  # of mime-db's sources

_OWN = {
    # Compressed: the outer format.
    "application/gzip": "gz tgz taz tpz svgz emz wmz vgz crate",
    "application/x-bzip2": "bz2 tbz2 tbz tb2",
    "application/x-compress": "z",
    "application/x-xz": "xz txz",
    "application/zstd": "zst tzst",
    "application/x-lz4": "lz4",
    "application/x-lzma": "lzma tlz",
    "application/x-lzip": "lz",
    "application/x-brotli": "br",
    "application/zip": "zip whl egg npz",
    "application/x-tar": "tar gem",
    # Documents.
    "application/rtf": "rtf",
    "application/xml": "xml xsd xslt rng",
    "application/vnd.ms-outlook": "msg",
    "application/vnd.ms-project": "mpp mpt",
    "application/vnd.amazon.mobi8-ebook": "azw3 kfx",
    "application/x-mobipocket-ebook": "mobi prc azw",
    "application/x-fictionbook+xml": "fb2",
    "application/vnd.oasis.opendocument.text-flat-xml": "fodt",
    "application/vnd.oasis.opendocument.spreadsheet-flat-xml": "fods",
    "application/vnd.oasis.opendocument.presentation-flat-xml": "fodp",
    "application/x-indesign": "indd",
    "application/vnd.garmin.tcx+xml": "tcx",
    "application/x-plist": "plist",
    "text/markdown": "md markdown mdx mkd rmd qmd",
    "text/vcard": "vcf vcard",
    # Data.
    "application/yaml": "yaml yml",
    "application/toml": "toml",
    "application/jsonl": "jsonl",
    "application/x-ndjson": "ndjson",
    "application/json": "json har topojson",
    "application/sql": "sql",
    "application/vnd.sqlite3": "sqlite sqlite3 db3",
    "application/vnd.apache.parquet": "parquet",
    "application/vnd.apache.arrow.file": "arrow feather",
    "application/x-hdf5": "h5 hdf5",
    "application/avro": "avro",
    "application/vnd.microsoft.portable-executable": "exe dll",
    "application/x-msi": "msi",
    "application/vnd.debian.binary-package": "deb",
    "application/x-rpm": "rpm",
    "application/x-apple-diskimage": "dmg",
    "application/x-iso9660-image": "iso",
    "text/plain": "txt text log ini cfg conf properties env lock editorconfig gitignore gitattributes dockerignore "
    "npmrc nfo lrc sub asc pub diff patch out err list",
    # Source code. `.ts` is TypeScript unless its bytes are an MPEG transport stream, `.mts` the other way round.
    "text/javascript": "js mjs cjs",
    "text/jsx": "jsx",
    TYPESCRIPT: "ts cts tsx",
    "text/x-python": "py pyi pyw pyx",
    "text/x-ruby": "rb rake gemspec",
    "text/x-perl": "pl pm",
    "text/x-php": "php phtml",
    "text/x-java-source": "java",
    "text/x-kotlin": "kt kts",
    "text/x-scala": "scala sc",
    "text/x-groovy": "groovy gradle",
    "text/x-c": "c h",
    "text/x-c++": "cc cpp cxx hh hpp hxx ino",
    "text/x-csharp": "cs csx",
    "text/x-vb": "vb vbs bas",
    "text/x-fsharp": "fs fsx fsi",
    "text/x-go": "go",
    "text/x-rust": "rs",
    "text/x-swift": "swift",
    "text/x-objectivec": "m mm",
    "text/x-lua": "lua",
    "text/x-r": "r",
    "text/x-julia": "jl",
    "text/x-haskell": "hs lhs",
    "text/x-ocaml": "ml mli",
    "text/x-elixir": "ex exs",
    "text/x-erlang": "erl hrl",
    "text/x-clojure": "clj cljs cljc edn",
    "text/x-lisp": "lisp el cl scm rkt",
    "text/x-dart": "dart",
    "text/x-zig": "zig",
    "text/x-nim": "nim",
    "text/x-vue": "vue",
    "text/x-svelte": "svelte",
    "text/x-solidity": "sol",
    "text/x-cuda": "cu cuh",
    "text/x-shader": "glsl vert frag hlsl wgsl",
    "text/x-sass": "sass",
    "text/x-scss": "scss",
    "text/x-less": "less",
    "text/x-tcl": "tcl",
    "text/x-asm": "asm s",
    "text/x-fortran": "f f77 f90 f95 for",
    "text/x-pascal": "pas pp",
    "text/x-protobuf": "proto",
    "text/x-graphql": "graphql gql",
    "text/x-terraform": "tf tfvars hcl",
    "text/x-nix": "nix",
    "text/x-cmake": "cmake",
    "text/x-makefile": "mk mak",
    "text/x-powershell": "ps1 psm1 psd1",
    "text/x-batch": "bat cmd",
    "application/x-sh": "sh bash zsh fish ksh",
    "text/x-rst": "rst",
    "text/asciidoc": "adoc asciidoc",
    "text/x-org": "org",
    "text/x-tex": "tex latex ltx sty cls",
    "text/x-bibtex": "bib",
    "text/x-gettext-translation": "po",
    "text/x-ssa": "ssa ass",
    # Pictures.
    "image/jpeg": "jpg jpeg jpe jfif jif thm",
    "image/heic": "heic heics",
    "image/heif": "heif heifs hif",
    "image/avif": "avif avifs",
    "image/vnd.microsoft.icon": "ico cur",
    "image/vnd.adobe.photoshop": "psd psb",
    "image/x-xcf": "xcf",
    "image/x-exr": "exr",
    "image/vnd.radiance": "hdr",
    "image/openraster": "ora",
    "image/x-adobe-dng": "dng",
    "image/x-canon-cr2": "cr2",
    "image/x-canon-cr3": "cr3",
    "image/x-canon-crw": "crw",
    "image/x-nikon-nef": "nef nrw",
    "image/x-sony-arw": "arw sr2 srf",
    "image/x-olympus-orf": "orf",
    "image/x-fuji-raf": "raf",
    "image/x-panasonic-rw2": "rw2",
    "image/x-pentax-pef": "pef",
    "image/x-samsung-srw": "srw",
    # Sound.
    "audio/mp4": "m4a m4b m4r mp4a",
    "audio/wav": "wav",
    "audio/flac": "flac",
    "audio/ogg": "ogg oga opus spx",
    "audio/aac": "aac adts",
    "audio/amr": "amr",
    "audio/x-ape": "ape",
    "audio/x-wavpack": "wv",
    "audio/x-musepack": "mpc",
    "audio/x-dsf": "dsf dff",
    "audio/ac3": "ac3",
    # Video.
    "video/mp4": "mp4 m4v mp4v mpg4 lrv insv",
    "video/quicktime": "mov qt",
    "video/mp2t": "mts m2t m2ts trp",
    "video/mpeg": "mpg mpeg mpe m1v m2v vob",
    "video/ogg": "ogv ogm",
    "video/x-msvideo": "avi divx",
    "video/x-dv": "dv",
}

# Files that are known by their whole name.
_NAMES = frozenset(
    {
        "readme", "license", "licence", "copying", "authors", "contributors", "notice", "install", "todo",
        "changelog", "changes", "news", "makefile", "gnumakefile", "dockerfile", "containerfile", "procfile",
        "gemfile", "rakefile", "vagrantfile", "jenkinsfile", "justfile", "codeowners", ".gitignore", ".gitattributes",
        ".gitmodules", ".editorconfig", ".dockerignore", ".npmrc", ".bashrc", ".bash_profile", ".profile", ".zshrc",
        ".vimrc", ".env", ".htaccess",
    }
)  # fmt: skip

_ARCHIVES = frozenset({ZIP, "application/gzip", "application/x-bzip2", "application/x-xz", "application/zstd"})
# What files of a type that the server does not look into begin with, where that is one thing and no other.
_BEGINNINGS = {
    "application/gzip": frozenset({"application/gzip"}),
    "application/x-bzip2": frozenset({"application/x-bzip2"}),
    "application/x-xz": frozenset({"application/x-xz"}),
    "application/zstd": frozenset({"application/zstd"}),
    "application/x-7z-compressed": frozenset({"application/x-7z-compressed"}),
    "application/vnd.rar": frozenset({"application/vnd.rar"}),
    "application/zip": frozenset({ZIP, EXECUTABLE}),  # one that unpacks itself begins with the program
    "application/x-tar": _ARCHIVES | {"application/x-tar"},
    "application/vnd.sqlite3": frozenset({"application/vnd.sqlite3"}),
    "application/wasm": frozenset({"application/wasm"}),
    "application/rtf": frozenset({"application/rtf", TEXT}),
    "application/postscript": frozenset({"application/postscript", TEXT}),
}
_OLDER_OFFICE = frozenset({"application/msword", "application/vnd.ms-excel", "application/vnd.ms-powerpoint"})
_OFFICE = frozenset({ZIP, OLE})  # the newer are archives, the older and the encrypted compound files


def guessed_content_type(name: str) -> str:
    """Returns the media type that belongs to the name's ending, `application/octet-stream` for an unknown one."""
    return _by_name(name) or NEUTRAL


def declared_content_type(name: str, start: bytes) -> str:
    """Returns the media type to declare a file as that has this name and begins so (`detection.SNIFFED_BYTES`).

    What the name says, unless the bytes clearly are something else: a PNG called `.jpg` is a PNG. A picture or PDF
    by name whose bytes are nothing that is known is `application/octet-stream`: it goes in as what it is.
    """
    named = _by_name(name)
    found = detected(start)
    if not named:
        return found if found and found not in TEXTS and found != OLE else NEUTRAL
    if not start or named == NEUTRAL:
        return named
    if _agree(named, found, start):
        return named
    if named == "video/mp2t" and found == TEXT:
        return TYPESCRIPT
    return found if found and found != OLE else NEUTRAL


def guessed_ending(content_type: str) -> str:
    """Returns the usual ending of names of that type, such as `.jpg`; empty when there is none."""
    bare = content_type.partition(";")[0].strip().lower()
    if bare == NEUTRAL:
        return ""
    endings = _OWN[bare].split() if bare in _OWN else _mime_db().get(bare, ("",))[1:]
    return f".{endings[0]}" if endings else ""


def _agree(named: str, found: str, start: bytes) -> bool:
    if is_sniffed(named):
        return fits(named, start)
    if not found or found == named:
        return True
    if named in _BEGINNINGS:
        return found in _BEGINNINGS[named]
    if named in _OLDER_OFFICE:
        return found in _OFFICE
    if _is_office(named):
        return found in _OFFICE or found.startswith("application/vnd.o")
    if _is_text(named):
        return found in TEXTS
    return not (_is_packed(named) and found in (TEXT, HTML, XML, PDF))


def _is_office(media_type: str) -> bool:
    return media_type in ("application/msword", "application/x-mspublisher") or (
        media_type.startswith(
            (
                "application/vnd.ms-excel",
                "application/vnd.ms-powerpoint",
                "application/vnd.ms-word",
                "application/vnd.ms-outlook",
                "application/vnd.ms-project",
                "application/vnd.openxmlformats-",
                "application/vnd.oasis.opendocument.",
                "application/vnd.apple.",
                "application/vnd.visio",
            )
        )
        and not media_type.endswith(("-flat-xml", "mpegurl", "+xml"))
    )


def _is_text(media_type: str) -> bool:
    return media_type.startswith(("text/", "message/")) or media_type.endswith(("+json", "+xml", "-flat-xml")) or (
        media_type in ("application/json", "application/jsonl", "application/x-ndjson", "application/yaml", XML,
                       "application/toml", "application/sql", "application/x-sh", "application/x-subrip")
    )  # fmt: skip


def _is_packed(media_type: str) -> bool:
    return media_type.endswith("+zip") or media_type in (
        "application/java-archive",
        "application/vnd.android.package-archive",
    )


def _by_name(name: str) -> str:
    """Returns the media type by the name's ending, empty for an unknown one."""
    last = name.rpartition("/")[2].lower()
    if last in _NAMES:
        return TEXT
    stem, dot, ending = last.rpartition(".")
    return _table().get(ending, "") if stem and dot else ""


@cache
def _table() -> Mapping[str, str]:
    """Returns the media type of each ending, in lower case and without its dot."""
    ranked: dict[str, tuple[int, str]] = {}
    for media_type, (source, *endings) in _mime_db().items():
        # `application/octet-stream` is what a registry says that has nothing to say.
        rank = -1 if media_type == NEUTRAL else _RANKS.get(source, 0)
        for ending in endings:
            if ending not in ranked or rank > ranked[ending][0]:
                ranked[ending] = (rank, media_type)
    table = {ending: media_type for ending, (_, media_type) in ranked.items()}
    table.update((ending, media_type) for media_type, endings in _OWN.items() for ending in endings.split())
    return table


@cache
def _mime_db() -> Mapping[str, list[str]]:
    """Returns each media type with mime-db's source for it and its endings, the usual one first."""
    types: dict[str, list[str]] = json.loads(files("assetlane").joinpath("mime_db.json").read_text("utf-8"))["types"]
    return types
