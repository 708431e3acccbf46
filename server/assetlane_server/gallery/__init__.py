"""The gallery: a sample page and the sample back end behind it, which `local` serves. `serve` does not.

It is written as a user of Assetlane would write it, and meant to be copied from. `accounts` keeps users and sessions
in MongoDB, `tries` limits guesses, `site` answers the page, `service` puts them together. The page is built from
`web/gallery` into `page/`.
"""

from assetlane_server.gallery.service import Gallery, GalleryFailedError, gallery

__all__ = ["Gallery", "GalleryFailedError", "gallery"]
