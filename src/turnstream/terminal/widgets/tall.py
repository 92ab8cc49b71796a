"""Containers that may be many thousand lines high."""

from __future__ import annotations

from typing import Any

from textual._spatial_map import SpatialMap
from textual._styles_cache import StylesCache
from textual.geometry import Region, Size
from textual.layout import DockArrangeResult, WidgetPlacement
from textual.strip import Strip
from textual.widget import Widget

_CELLS = 16
"""Largest number of rows of cells in the map of a container."""
_CELL = (100, 20)
"""Columns and lines of a cell in Textual's own maps."""


class TallStylesCache(StylesCache):
    """Rendered lines of a tall container.

    Textual marks every line of a widget that has grown as dirty. Lines that are not cached are rendered
    anyway, so only cached lines are marked here.
    """

    def set_dirty(self, *regions: Region) -> None:
        """Render the lines of these regions again; all lines if there are none."""
        if not regions:
            self.clear()
        for region in regions:
            self._dirty_lines.update(y for y in self._cache if region.y <= y < region.bottom)


class TallWidget(Widget):
    """A container whose height has no bound. The cost of an update does not grow with the height.

    Textual finds the visible children in a map with a cell for each 20 lines, and fills it anew when a child
    grows. Tall containers have larger cells.
    """

    def __init__(self, *children: Widget, **options: Any) -> None:
        super().__init__(*children, **options)
        self._styles_cache = TallStylesCache()

    def arrange(self, size: Size, optimal: bool = False) -> DockArrangeResult:  # noqa: FBT001, FBT002
        """Return the places of the children, as Textual does."""
        result = super().arrange(size, optimal)
        if result._spatial_map is None:  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
            bottom = max((placement.region.bottom for placement in result.placements), default=0)
            if bottom > _CELLS * _CELL[1]:
                cells: SpatialMap[WidgetPlacement] = SpatialMap(_CELL[0], -(-bottom // _CELLS))
                cells.insert(
                    (place.region.grow(place.margin), place.offset, place.fixed, place.overlay, place)
                    for place in result.placements
                )
                result._spatial_map = cells  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        return result

    def render_lines(self, crop: Region) -> list[Strip]:
        """Return the lines behind the children. They are all alike, because the container has no border."""
        return super().render_lines(Region(crop.x, crop.y, crop.width, 1)) * crop.height
