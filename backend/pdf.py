"""Pages of a PDF as pictures, by PDFium, the renderer of Chromium."""

from __future__ import annotations

from collections.abc import Iterator

import pypdfium2
from PIL import Image as Pil
from pypdfium2 import raw

from backend.formats import Refusal

MAX_SCALE = 300 / 72  # dots per point: 300 dpi, so that a page of a stamp's size is not blown up


class Document:
    """A PDF that was opened. One thread of a process at a time: PDFium is not thread-safe."""

    def __init__(self, data: bytes) -> None:
        """Raises Refusal where a password is asked for, and PdfiumError where it is damaged."""
        try:
            self._document = pypdfium2.PdfDocument(data)
        except pypdfium2.PdfiumError as error:
            if error.err_code in (raw.FPDF_ERR_PASSWORD, raw.FPDF_ERR_SECURITY):
                raise Refusal(
                    "is protected by a password.", "Save it without one, or take a screenshot, and add that."
                ) from None
            raise

    def __len__(self) -> int:
        return len(self._document)

    def pages(self, first: int, count: int, longest_side: int) -> Iterator[Pil.Image]:
        """So many pages from ``first`` (counted from 0), each with the longest side that was asked for."""
        for number in range(first, min(first + count, len(self))):
            page = self._document[number]
            scale = min(longest_side / max(*page.get_size(), 1), MAX_SCALE)
            bitmap = page.render(scale=scale, may_draw_forms=False, draw_annots=True)
            picture = bitmap.to_pil().convert("RGB")
            picture.thumbnail((longest_side, longest_side))  # PDFium rounds up
            yield picture
            bitmap.close()
            page.close()
